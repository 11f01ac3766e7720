"""When the pool's child makes a key: at once, or when nothing is ordered for a moment."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from appliance.envelopes.keymaker import LONG, REST_S, SHORT, SHORT_BITS
from appliance.envelopes.pool import _read_key

_CHILD = "from appliance.envelopes import keymaker; keymaker.REST_S = {rest_s}; keymaker.main()"


@contextmanager
def child(rest_s: float) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Start one that rests for so long; give its input and its output."""
    command = [sys.executable, "-c", _CHILD.format(rest_s=rest_s), "3072"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdin, process.stdout
        finally:
            process.kill()


def test_a_key_for_later_is_made_after_a_rest() -> None:
    with child(REST_S) as (orders, keys):
        began = time.monotonic()
        orders.write(LONG * 2)
        assert _read_key(keys)
        assert time.monotonic() - began >= REST_S
        assert _read_key(keys)


@pytest.mark.timeout(60)
def test_a_key_for_now_waits_for_no_rest_nor_do_those_before_it() -> None:
    with child(3600.0) as (orders, keys):
        orders.write(LONG.upper())
        assert _read_key(keys)
        orders.write(LONG)
        orders.write(SHORT.upper())
        assert all(_read_key(keys) for _ in range(2))


def test_each_kind_has_its_size() -> None:
    with child(0.0) as (orders, keys):
        orders.write(SHORT + LONG)
        for kind, bits in ((SHORT, SHORT_BITS), (LONG, 3072)):
            made = _read_key(keys)
            assert made is not None
            assert made[0] == kind
            key = load_der_private_key(made[1], None)
            assert isinstance(key, RSAPrivateKey)
            assert key.key_size == bits


def test_it_ends_with_its_input() -> None:
    with child(3600.0) as (orders, keys):
        orders.write(LONG)
        orders.close()
        assert _read_key(keys) is None
