"""Keys' ids, peers' public keys, and the pool."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from appliance.envelopes.keymaker import LONG, SHORT, SHORT_BITS
from appliance.envelopes.keys import (
    REPLY_SECRET_BYTES,
    Suite,
    key_id_of,
    load_public,
    load_recipient,
    private_key,
    public_der,
    round_key_id,
)
from appliance.envelopes.pool import KeyPool
from appliance.words.errors import ApplianceError, RemoteError

BITS = 2048


def _wait_for(condition: Callable[[], bool], bound_s: float = 60.0) -> None:
    end = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        os.sched_yield()


def test_a_public_key_survives_its_encoding() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    der = public_der(key)
    assert public_der(load_public(der)) == der == public_der(key.public_key())
    assert len(key_id_of(der)) == len(round_key_id(bytes(32))) == 32


def test_other_public_keys_are_refused() -> None:
    good = public_der(rsa.generate_private_key(public_exponent=65537, key_size=BITS))
    elliptic = ec.generate_private_key(ec.SECP256R1()).public_key()
    odd = rsa.generate_private_key(public_exponent=3, key_size=BITS)
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
    numbers = RSA.public_key().public_numbers()
    modulus = numbers.n.to_bytes(BITS // 8, "big")
    even = public_der(RSA).replace(modulus, modulus[:-1] + bytes([modulus[-1] - 1]))
    for der, reason in [
        (even, "modulus is even"),
        (b"", "is not one"),
        (good[:-1], "is not one"),
        (elliptic.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "not RSA"),
        (public_der(odd), "exponent"),
        (public_der(small), "not RSA of 2048"),
    ]:
        with pytest.raises(RemoteError, match=reason):
            load_public(der)


def test_the_pool_fills_and_gives_no_key_twice() -> None:
    with KeyPool(3, BITS) as pool:
        _wait_for(lambda: pool.level == 3)
        taken = [pool.take_reply_key() for _ in range(6)]
        assert len({key.recipient.id for key in taken}) == 6
        assert len({key.secret for key in taken}) == 6
        assert all(len(key.secret) == REPLY_SECRET_BYTES for key in taken)
        _wait_for(lambda: pool.level == 3)
    assert pool.level == 0


class _NeverRefilled(KeyPool):
    """Its orders after the first two, one of each kind, are noted, and not carried out."""

    def __init__(self, size: int) -> None:
        super().__init__(size, BITS)
        self.orders: list[bytes] = []

    def _order(self, kinds: bytes) -> None:
        if len(self.orders) < 2:
            super()._order(kinds)
        self.orders.append(kinds)


def test_only_a_pool_that_is_low_is_in_a_hurry() -> None:
    with _NeverRefilled(5) as pool:
        _wait_for(lambda: pool.level == 5 and len(pool._keys[LONG]) == 2)
        for _ in range(4):
            pool.take_reply_key()
        pool.take_token_key()
        for _ in range(2):
            pool.take()
    first = [LONG.upper() * 2, SHORT.upper() * 5]
    assert pool.orders == [*first, SHORT, SHORT, *[SHORT.upper()] * 3, LONG, LONG]


def test_what_guards_by_itself_is_a_long_key_and_no_other_is() -> None:
    with KeyPool(1, 3072) as pool:
        sizes = [pool.take().rsa.key_size, pool.take_reply_key().rsa.key_size, pool.take_token_key().key_size]
        assert pool.take().secret == b""
    assert sizes == [3072, SHORT_BITS, SHORT_BITS]


def test_closing_is_prompt_even_while_a_key_is_made() -> None:
    with KeyPool(50, 4096) as pool:
        _wait_for(lambda: pool._child is not None)
        start = time.monotonic()
    assert time.monotonic() - start < 2.0
    assert not pool._thread.is_alive()


def test_a_dead_child_costs_no_key(caplog: pytest.LogCaptureFixture) -> None:
    with KeyPool(1, BITS) as pool:
        _wait_for(lambda: pool.level == 1)
        child = pool._child
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        _wait_for(lambda: pool._child is None)
        assert all(pool.take_reply_key().rsa.key_size == SHORT_BITS for _ in range(2))
        assert all(pool.take().rsa.key_size == BITS for _ in range(3))
    assert "child process ended" in caplog.text


def test_a_sealed_key_of_the_pool_is_a_sound_one() -> None:
    with KeyPool(1, BITS) as pool:
        _wait_for(lambda: pool.level == 1)
        numbers = pool.take().rsa.private_numbers()
    assert numbers.p * numbers.q == numbers.public_numbers.n


RSA = rsa.generate_private_key(public_exponent=65537, key_size=BITS)


def test_a_hybrid_key_survives_its_encoding() -> None:
    key = private_key(RSA, "rsa+mlkem768")
    encoding = key.recipient.encoding
    assert len(encoding) == len(public_der(RSA)) + 1184
    assert load_recipient(encoding, "rsa+mlkem768").id == key.recipient.id == key_id_of(encoding)
    assert key.recipient.id != private_key(RSA, "rsa").recipient.id


def test_no_suite_is_taken_for_the_other() -> None:
    """Or a leader could have everybody seal to RSA alone."""
    plain, hybrid = (private_key(RSA, suite).recipient.encoding for suite in ("rsa", "rsa+mlkem768"))
    with pytest.raises(RemoteError, match="is not of the kind rsa\\+mlkem768 that this cluster uses"):
        load_recipient(plain, "rsa+mlkem768")
    with pytest.raises(RemoteError, match="is not of the kind rsa that this cluster uses"):
        load_recipient(hybrid, "rsa")
    for cut in (hybrid[:-1], hybrid + b"x"):
        with pytest.raises(RemoteError, match="its ML-KEM part is none"):
            load_recipient(cut, "rsa+mlkem768")


@given(st.binary(max_size=2048), st.sampled_from(["rsa", "rsa+mlkem768"]))
def test_rubbish_is_no_key_and_raises_nothing_else(content: bytes, suite: Suite) -> None:
    for encoding in (content, public_der(RSA) + content, public_der(RSA)[:40] + content):
        with contextlib.suppress(RemoteError):
            load_recipient(encoding, suite)


def test_who_takes_from_an_empty_pool_waits_for_the_child() -> None:
    with KeyPool(1, BITS) as pool:
        taken = [pool.take() for _ in range(4)]
        assert len({key.recipient.id for key in taken}) == 4
        assert pool.longest_wait_s > 0.0


def test_a_pool_that_is_closed_keeps_nobody_waiting() -> None:
    with KeyPool(1, 4096) as pool:
        waiting = threading.Thread(target=lambda: errors.append(_error_of(pool)))
        errors: list[ApplianceError] = []
        for _ in range(2):
            pool.take()
        waiting.start()
    waiting.join(5.0)
    assert not waiting.is_alive()


def _error_of(pool: KeyPool) -> ApplianceError:
    try:
        pool.take()
    except ApplianceError as error:
        return error
    return ApplianceError("it had a key after all")
