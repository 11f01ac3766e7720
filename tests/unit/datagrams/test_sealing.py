"""Sealed datagrams: opened by the one they are for; everything else is refused with its class."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.consensus.messages import MESSAGE_LIMIT
from appliance.datagrams.liveness import Liveness
from appliance.datagrams.sealing import (
    CONTENT_LIMIT,
    DATAGRAM_LIMIT,
    NO_TOKEN,
    Cipher,
    Header,
    Kind,
    Refusal,
    RefusedError,
    parse,
    tag_of,
)
from appliance.words.ids import Monotonic

SECRET = bytes(range(32))
HEADER = Header(Kind.DATA, tag_of("a"), b"session.", b"token...", 7)
GOLDEN = "0202ca978112ca1bbdca73657373696f6e2e746f6b656e2e2e2e00000007588b6e11c9754175e42a1f6ad1857d62513f908a14"


def cipher(sender: str, receiver: str, secret: bytes = SECRET, cluster: str = "test") -> Cipher:
    return Cipher(cluster=cluster, sender=sender, receiver=receiver, secret=secret)


def refusal(opener: Cipher, datagram: bytes) -> Refusal:
    with pytest.raises(RefusedError) as caught:
        opener.open(*parse(datagram))
    return caught.value.refusal


def test_round_trip_to_the_limit() -> None:
    a = cipher("a", "b")
    for content in (b"", b"x", bytes(CONTENT_LIMIT)):
        datagram = a.seal(HEADER, content)
        assert len(datagram) <= DATAGRAM_LIMIT
        header, ciphertext = parse(datagram)
        assert (header, a.open(header, ciphertext)) == (HEADER, content)
    with pytest.raises(ValueError, match="at most"):
        a.seal(HEADER, bytes(CONTENT_LIMIT + 1))
    assert CONTENT_LIMIT >= MESSAGE_LIMIT, "every message of consensus fits"


def test_a_known_datagram() -> None:
    """A golden vector: the format is a contract between versions (docs/protocol.md)."""
    assert cipher("a", "b").seal(HEADER, b"hello").hex() == GOLDEN


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    datagram, b = cipher("a", "b").seal(HEADER, b"hello"), cipher("a", "b")
    for bit in range(8 * len(datagram)):
        flipped = bytearray(datagram)
        flipped[bit // 8] ^= 1 << bit % 8
        assert refusal(b, bytes(flipped)) in {Refusal.GARBAGE, Refusal.WRONG_KEY}
    for length in range(len(datagram)):
        assert refusal(b, datagram[:length]) in {Refusal.GARBAGE, Refusal.WRONG_KEY}
    assert refusal(b, datagram + b"x") is Refusal.WRONG_KEY
    assert refusal(b, cipher("a", "b").seal(HEADER, bytes(CONTENT_LIMIT)) + b"x") is Refusal.GARBAGE


def test_other_keys_are_refused() -> None:
    b = cipher("a", "b")
    for other in (cipher("a", "c"), cipher("b", "a"), cipher("a", "b", bytes(32)), cipher("a", "b", cluster="other")):
        assert refusal(b, other.seal(HEADER, b"x")) is Refusal.WRONG_KEY
    with pytest.raises(ValueError, match="32"):
        cipher("a", "b", secret=b"short")


def test_a_hello_has_no_token_and_everything_else_has_one() -> None:
    for kind in Kind:
        for token in (NO_TOKEN, b"token..."):
            datagram = cipher("a", "b").seal(Header(kind, tag_of("a"), b"session.", token, 1), b"")
            if (kind is Kind.HELLO) == (token == NO_TOKEN):
                parse(datagram)
            else:
                assert refusal(cipher("a", "b"), datagram) is Refusal.GARBAGE


@given(st.binary(max_size=DATAGRAM_LIMIT + 10))
def test_rubbish_is_refused_and_raises_nothing_else(datagram: bytes) -> None:
    with pytest.raises(RefusedError):
        cipher("a", "b").open(*parse(datagram))


def test_a_doubted_peer_is_down_if_it_was_silent_and_until_it_is_heard_again() -> None:
    liveness = Liveness({"a", "b"}, Monotonic(0.0))
    liveness.heard("a", Monotonic(1.0))
    liveness.doubt("a", 0.25, Monotonic(1.2))
    assert liveness.live(Monotonic(1.2)) == {"a"}
    liveness.doubt("a", 0.25, Monotonic(1.25))
    liveness.doubt("b", 0.25, Monotonic(1.25))
    assert liveness.live(Monotonic(1.25)) == frozenset()
    liveness.heard("a", Monotonic(1.3))
    assert liveness.live(Monotonic(1.3)) == {"a"}


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


@pytest.mark.parametrize(("peers", "pause", "up_for"), [(1, 0.5, 2.0), (10, 0.5, 2.0), (20, 1.0, 4.0), (200, 2.0, 8.0)])
def test_many_peers_are_pinged_less_often_each(peers: int, pause: float, up_for: float) -> None:
    names = [f"node{number}" for number in range(peers)]
    liveness = Liveness(names, Monotonic(0.0))
    assert len(liveness.to_ping(Monotonic(0.0))) == peers
    for name in names:
        liveness.told(name, Monotonic(0.0))
        liveness.heard(name, Monotonic(0.0))
    assert liveness.next_ping == pause
    assert not liveness.to_ping(Monotonic(pause - 0.01))
    assert len(liveness.to_ping(Monotonic(pause))) == peers
    assert len(liveness.live(Monotonic(up_for))) == peers
    assert not liveness.live(Monotonic(up_for + 0.01))


def test_a_peer_that_left_brings_the_others_their_pings_more_often_again() -> None:
    names = [f"node{number}" for number in range(40)]
    liveness = Liveness(names, Monotonic(0.0))
    for name in names:
        liveness.told(name, Monotonic(0.0))
    liveness.set_peers(names[:10], Monotonic(0.0))
    assert liveness.next_ping == 0.5


def test_peers_that_come_and_go_are_watched_from_then_on() -> None:
    liveness = Liveness({"a", "b"}, Monotonic(0.0))
    liveness.heard("a", Monotonic(1.0))
    liveness.heard("b", Monotonic(1.0))
    liveness.set_peers({"b", "c"}, Monotonic(1.5))
    liveness.heard("a", Monotonic(1.6))
    assert liveness.live(Monotonic(1.6)) == {"b"}
    assert "c" in liveness.to_ping(Monotonic(1.5))
