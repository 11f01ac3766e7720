"""Sealed datagrams: opened once, by the one they are for; everything else is refused with its class."""

import random
from pathlib import Path

import pytest

from appliance.datagrams.boot import next_boot, read_secret
from appliance.datagrams.liveness import Liveness
from appliance.datagrams.sealing import CONTENT_LIMIT, DATAGRAM_LIMIT, Refusal, RefusedError, ReplayWindow, Sealer
from appliance.words.errors import OperatorError, StateError
from appliance.words.ids import Monotonic

SECRET = bytes(range(32))
GOLDEN = "01ca978112ca1bbdca000000070000000000000001c83db65f6ad1186356ad659c6b1cb037277ca0ea04"


def sealer(me: str, boot: int = 1, secret: bytes = SECRET, cluster: str = "test") -> Sealer:
    return Sealer(cluster=cluster, me=me, peers={"a", "b", "c"} - {me}, secret=secret, boot=boot)


def refusal(opener: Sealer, datagram: bytes) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        opener.open(datagram)
    return caught.value.refusal


def test_round_trip_to_the_limit() -> None:
    a, b = sealer("a"), sealer("b")
    for content in (b"", b"x", bytes(CONTENT_LIMIT)):
        datagram = a.seal("b", content)
        assert len(datagram) <= DATAGRAM_LIMIT
        assert b.open(datagram) == ("a", content)
    with pytest.raises(ValueError, match="at most"):
        a.seal("b", bytes(CONTENT_LIMIT + 1))


def test_a_known_datagram() -> None:
    """A golden vector: the format is a contract between versions."""
    assert sealer("a", boot=7).seal("b", b"hello").hex() == GOLDEN


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    datagram = sealer("a").seal("b", b"hello")
    b = sealer("b")
    for bit in range(8 * len(datagram)):
        flipped = bytearray(datagram)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refusal(b, bytes(flipped)) in {Refusal.GARBAGE, Refusal.UNKNOWN_SENDER, Refusal.WRONG_SECRET}
    for length in range(len(datagram)):
        assert refusal(b, datagram[:length]) in {Refusal.GARBAGE, Refusal.WRONG_SECRET}
    assert refusal(b, datagram + b"x") is Refusal.WRONG_SECRET
    assert refusal(b, bytes(DATAGRAM_LIMIT + 1)) is Refusal.GARBAGE
    assert b.open(datagram) == ("a", b"hello"), "none of that moved the window"


def test_other_keys_are_refused() -> None:
    b = sealer("b")
    assert refusal(b, sealer("a").seal("c", b"for c")) is Refusal.WRONG_SECRET
    assert refusal(b, sealer("a", secret=bytes(32)).seal("b", b"x")) is Refusal.WRONG_SECRET
    assert refusal(b, sealer("a", cluster="other").seal("b", b"x")) is Refusal.WRONG_SECRET
    assert refusal(b, sealer("b").seal("a", b"reflected")) is Refusal.UNKNOWN_SENDER
    stranger = Sealer(cluster="test", me="z", peers=["b"], secret=SECRET, boot=1)
    assert refusal(b, stranger.seal("b", b"x")) is Refusal.UNKNOWN_SENDER
    with pytest.raises(ValueError, match="32"):
        sealer("a", secret=b"short")


def test_replays_are_refused_also_from_before_a_restart() -> None:
    old, b = sealer("a", boot=1), sealer("b")
    first, second = old.seal("b", b"1"), old.seal("b", b"2")
    assert b.open(second) == ("a", b"2")
    assert b.open(first) == ("a", b"1")
    assert refusal(b, first) is Refusal.REPLAY
    assert b.open(sealer("a", boot=2).seal("b", b"3")) == ("a", b"3")
    assert refusal(b, old.seal("b", b"4")) is Refusal.REPLAY


@pytest.mark.parametrize("seed", range(20))
def test_the_window_equals_a_slow_reference(seed: int) -> None:
    chance = random.Random(seed)
    window, seen, newest = ReplayWindow(), set[int](), 0
    for _ in range(2000):
        counter = max(1, newest + chance.randint(-80, chance.choice([3, 3, 3, 100])))
        expected = counter not in seen and counter > newest - 64
        assert window.accept(1, counter) is expected
        if expected:
            seen.add(counter)
            newest = max(newest, counter)


def test_boots_count_up_and_a_damaged_counter_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "boot"
    assert [next_boot(path) for _ in range(3)] == [1, 2, 3]
    for damage in ("", "x", "-5", str(2**32 - 1), "\N{SNOWMAN}"):
        path.write_text(damage)
        with pytest.raises(StateError, match="is damaged: write into it a number"):
            next_boot(path)
    with pytest.raises(StateError, match="no such file"):
        next_boot(tmp_path / "nowhere" / "boot")


def test_the_secret_is_32_bytes_that_nobody_else_may_read(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(OperatorError, match="is missing"):
        read_secret(path)
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(OperatorError, match=r"has 5 bytes, and identity\.consensus_secret must have 32"):
        read_secret(path)
    path.write_bytes(SECRET)
    assert read_secret(path) == SECRET
    path.chmod(0o644)
    with pytest.raises(OperatorError, match="chmod 600"):
        read_secret(path)


def test_a_forgotten_peer_is_down_until_it_is_heard_again() -> None:
    liveness = Liveness({"a", "b"}, Monotonic(0.0))
    liveness.heard("a", Monotonic(1.0))
    liveness.forget("a")
    assert liveness.live(Monotonic(1.0)) == frozenset()
    liveness.heard("a", Monotonic(1.1))
    assert liveness.live(Monotonic(1.1)) == {"a"}


def test_liveness_pings_the_untold_and_counts_the_heard() -> None:
    liveness = Liveness({"a", "b"}, Monotonic(0.0))
    assert liveness.to_ping(Monotonic(0.0)) == ["a", "b"]
    liveness.told("a", Monotonic(0.25))
    liveness.told("b", Monotonic(0.5))
    assert liveness.next_ping == 0.75
    assert liveness.to_ping(Monotonic(0.75)) == ["a"]
    liveness.heard("b", Monotonic(1.0))
    assert liveness.live(Monotonic(3.0)) == {"b"}
    assert liveness.live(Monotonic(3.01)) == frozenset()
    assert Liveness((), Monotonic(0.0)).next_ping == float("inf")
