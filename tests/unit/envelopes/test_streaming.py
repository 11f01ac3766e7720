"""Envelopes in pieces: the bytes of whole ones, and nothing is given out that was not verified."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.envelopes.format import SALT_BYTES, Header, Kind
from appliance.envelopes.keys import round_key_id
from appliance.envelopes.seal import seal_content
from appliance.envelopes.stream import CHUNK, TAG
from appliance.envelopes.streaming import Opener, seal_pieces
from appliance.words.errors import RemoteError

KEY = bytes(range(32))
HEADER = Header(Kind.CANDIDATE, 3, 7, round_key_id(KEY), b"s" * SALT_BYTES, b"")
LENGTHS = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK - 5]
SEALED = CHUNK + TAG


def payload(length: int) -> bytes:
    return (b"0123456789abcdef!" * (length // 17 + 1))[:length]


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


def opened(pieces: list[bytes]) -> bytes:
    opener = Opener(lambda _: KEY)
    parts = [chunk for piece in pieces for chunk in opener.feed(piece)]
    return b"".join([*parts, opener.finish()])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("size", [1 << 16, CHUNK, CHUNK + 1, 10 * CHUNK])
def test_pieces_of_any_size_make_the_whole_envelope_and_open(length: int, size: int) -> None:
    whole = seal_content(payload(length), KEY, HEADER)
    assert b"".join(seal_pieces(cut(payload(length), size), KEY, HEADER)) == whole
    assert opened(cut(whole, size)) == payload(length)


WHOLE = seal_content(payload(2 * CHUNK + 100), KEY, HEADER)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_what_comes_before_a_changed_byte_is_all_that_comes(place: int, change: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[place] ^= change
    given_out = bytearray()

    def read() -> None:
        opener = Opener(lambda _: KEY)
        for piece in cut(bytes(damaged), 50_000):
            for chunk in opener.feed(piece):
                given_out.extend(chunk)
        opener.finish()

    with pytest.raises(RemoteError):
        read()
    assert payload(2 * CHUNK + 100).startswith(given_out)
    assert len(given_out) <= max(0, place - 72) // SEALED * CHUNK


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_a_cut_stream_is_an_error(length: int) -> None:
    with pytest.raises(RemoteError):
        opened(cut(WHOLE[:length], 50_000))


@pytest.mark.parametrize("length", [72 + SEALED, 72 + 2 * SEALED])
def test_a_stream_that_ends_with_a_whole_chunk_that_is_not_the_last_is_an_error(length: int) -> None:
    with pytest.raises(RemoteError, match="not authentic"):
        opened([WHOLE[:length]])


@pytest.mark.parametrize("tail", [b"x", bytes(TAG), WHOLE[-116:], bytes(SEALED)])
def test_a_tail_is_an_error(tail: bytes) -> None:
    with pytest.raises(RemoteError):
        opened([WHOLE, tail])


def test_an_error_stays() -> None:
    opener = Opener(lambda _: KEY)
    with pytest.raises(RemoteError):
        opener.feed(b"x" * 72)
    for again in (lambda: opener.feed(WHOLE), opener.finish):
        with pytest.raises(RemoteError, match="wrong magic"):
            again()


def test_what_is_opened_takes_no_more() -> None:
    opener = Opener(lambda _: KEY)
    opener.feed(seal_content(b"all", KEY, HEADER))
    assert opener.finish() == b"all"
    with pytest.raises(RemoteError, match="opened already"):
        opener.feed(b"more")


def test_memory_is_a_few_chunks_whatever_comes() -> None:
    opener = Opener(lambda _: KEY)
    for piece in seal_pieces((payload(CHUNK) for _ in range(20)), KEY, HEADER):
        opener.feed(piece)
        assert len(opener._chunks.rest) + len(opener._head) <= 2 * SEALED
