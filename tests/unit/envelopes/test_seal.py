"""Envelopes: what is sealed opens, and nothing else does (docs/protocol.md, section 2)."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.envelopes.format import Kind
from appliance.envelopes.keys import PrivateKey
from appliance.envelopes.seal import open_envelope, open_under_key, read_header, seal, seal_parts, seal_under_key
from appliance.envelopes.stream import CHUNK, TAG
from appliance.words.errors import RemoteError

VECTORS = Path(__file__).parents[2] / "vectors"
_loaded = load_pem_private_key((VECTORS / "recipient.pem").read_bytes(), None)
assert isinstance(_loaded, RSAPrivateKey)
PRIVATE = PrivateKey(_loaded)
ROUND_KEY = bytes(range(32))
NUMBERS = st.integers(0, 2**62 - 1)
LENGTHS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK - 5]


def _payload(length: int) -> bytes:
    return (b"0123456789abcdef!" * (length // 17 + 1))[:length]


@given(payload=st.binary(max_size=300), kind=st.sampled_from([Kind.TO_LEADER, Kind.TO_PARTICIPANT]), term=NUMBERS)
def test_what_is_sealed_to_a_key_opens_with_it(payload: bytes, kind: Kind, term: int) -> None:
    envelope = seal(payload, PRIVATE.recipient, kind=kind, term=term, round=9)
    header = read_header(envelope)
    assert (header.kind, header.term, header.round) == (kind, term, 9)
    assert header.key_id == PRIVATE.recipient.id
    assert open_envelope(envelope, PRIVATE) == payload


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_payloads_of_every_chunk_count_open(length: int, wrap: Any) -> None:
    payload = _payload(length)
    envelope = seal(wrap(payload), PRIVATE.recipient, kind=Kind.TO_LEADER, term=1, round=1)
    assert len(envelope) == 72 + 256 + length + TAG * max(1, -(-length // CHUNK))
    assert open_envelope(wrap(envelope), PRIVATE) == payload
    assert open_under_key(seal_under_key(wrap(payload), ROUND_KEY, term=1, round=1), ROUND_KEY) == payload


def test_two_seals_of_one_payload_share_no_byte_of_content() -> None:
    first, second = (seal_under_key(bytes(64), ROUND_KEY, term=1, round=1)[72:] for _ in range(2))
    assert not any(a == b for a, b in zip([first[:16], first[16:32]], [second[:16], second[16:32]], strict=True))


SMALL = seal(_payload(100), PRIVATE.recipient, kind=Kind.TO_LEADER, term=5, round=6)
SMALL_CANDIDATE = seal_under_key(_payload(100), ROUND_KEY, term=5, round=6)


@settings(max_examples=400)
@given(offset=st.integers(0, len(SMALL) - 1), mask=st.integers(1, 255))
def test_any_changed_byte_is_refused(offset: int, mask: int) -> None:
    changed = bytearray(SMALL)
    changed[offset] ^= mask
    with pytest.raises(RemoteError):
        open_envelope(changed, PRIVATE)


@settings(max_examples=400)
@given(offset=st.integers(0, len(SMALL_CANDIDATE) - 1), mask=st.integers(1, 255))
def test_any_changed_byte_of_a_candidate_is_refused(offset: int, mask: int) -> None:
    changed = bytearray(SMALL_CANDIDATE)
    changed[offset] ^= mask
    with pytest.raises(RemoteError):
        open_under_key(changed, ROUND_KEY)


def test_every_cut_and_every_tail_is_refused() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(RemoteError):
            open_envelope(SMALL[:length], PRIVATE)
    for tail in (b"\x00", bytes(TAG), bytes(CHUNK)):
        with pytest.raises(RemoteError):
            open_envelope(SMALL + tail, PRIVATE)


@given(content=st.binary(max_size=2000))
def test_rubbish_is_refused(content: bytes) -> None:
    for envelope in (content, SMALL[:72] + content, SMALL[:328] + content):
        with pytest.raises(RemoteError):
            open_envelope(envelope, PRIVATE)
        with pytest.raises(RemoteError):
            open_under_key(envelope, ROUND_KEY)


def _chunks(envelope: bytes) -> list[bytes]:
    body = envelope[72:]
    return [body[start : start + CHUNK + TAG] for start in range(0, len(body), CHUNK + TAG)]


@pytest.mark.parametrize(
    ("order", "what"),
    [
        ([0, 1], "last chunk dropped"),
        ([1, 0, 2], "two chunks swapped"),
        ([0, 0, 1, 2], "a chunk doubled"),
        ([0, 2], "a middle chunk dropped"),
        ([0, 1, 2, 2], "the last chunk doubled"),
        ([2], "the last chunk alone"),
    ],
)
def test_moved_chunks_are_refused(order: list[int], what: str) -> None:
    envelope = seal_under_key(_payload(3 * CHUNK), ROUND_KEY, term=1, round=1)
    chunks = _chunks(envelope)
    moved = envelope[:72] + b"".join(chunks[number] for number in order)
    with pytest.raises(RemoteError):
        open_under_key(moved, ROUND_KEY)


def test_an_empty_last_chunk_is_refused_by_its_length() -> None:
    envelope = seal_under_key(_payload(CHUNK), ROUND_KEY, term=1, round=1)
    with pytest.raises(RemoteError, match="last chunk is empty"):
        open_under_key(envelope + bytes(TAG), ROUND_KEY)


def test_the_header_of_one_envelope_does_not_fit_another() -> None:
    other = seal_under_key(_payload(100), ROUND_KEY, term=5, round=7)
    with pytest.raises(RemoteError, match="not authentic"):
        open_under_key(other[:72] + SMALL_CANDIDATE[72:], ROUND_KEY)


def test_an_envelope_for_another_key_is_refused_before_any_work() -> None:
    other = PrivateKey(generate_private_key(public_exponent=65537, key_size=2048))
    with pytest.raises(RemoteError, match="sealed to another key"):
        open_envelope(SMALL, other)
    with pytest.raises(RemoteError, match="sealed to another key"):
        open_envelope(SMALL_CANDIDATE, PRIVATE)
    with pytest.raises(RemoteError, match="under another key"):
        open_under_key(SMALL_CANDIDATE, bytes(32))
    with pytest.raises(RemoteError, match="under another key"):
        open_under_key(SMALL, ROUND_KEY)


@given(st.lists(st.sampled_from([0, 1, 7, CHUNK - 1, CHUNK, CHUNK + 1]), max_size=5))
def test_parts_are_sealed_as_the_whole_would_be(lengths: list[int]) -> None:
    parts = [_payload(length) for length in lengths]
    envelope = seal_parts(parts, PRIVATE.recipient, kind=Kind.TO_LEADER, term=1, round=2)
    assert open_envelope(envelope, PRIVATE) == b"".join(parts)
    assert len(envelope) == len(seal(b"".join(parts), PRIVATE.recipient, kind=Kind.TO_LEADER, term=1, round=2))


def test_a_round_key_of_a_wrong_size_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        seal_under_key(b"", b"short", term=1, round=1)
