"""Parts of an envelope's payload: those that were sealed, each chunk opened once, and nothing that was changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.envelopes.reading import PayloadReader
from appliance.envelopes.seal import seal_content
from appliance.envelopes.stream import CHUNK
from appliance.words.errors import RemoteError
from tests.unit.envelopes.test_streaming import HEADER, KEY, LENGTHS, SEALED, payload


class Kept:
    """An envelope somewhere, and what was read of it."""

    def __init__(self, length: int) -> None:
        self.envelope = bytearray(seal_content(payload(length), KEY, HEADER))
        self.reads: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> bytes:
        self.reads.append((start, stop))
        return bytes(self.envelope[start:stop])

    def reader(self) -> PayloadReader:
        return PayloadReader(self.read, len(self.envelope), KEY, HEADER)


@given(st.sampled_from(LENGTHS), st.data())
def test_any_part_is_that_of_the_payload(length: int, data: st.DataObject) -> None:
    reader = Kept(length).reader()
    for _ in range(3):
        start = data.draw(st.integers(0, length))
        stop = data.draw(st.integers(start, length))
        assert reader.read(start, stop) == payload(length)[start:stop]


def test_reading_on_reads_and_opens_each_chunk_once() -> None:
    kept = Kept(3 * CHUNK - 5)
    reader = kept.reader()
    step = CHUNK // 3
    assert b"".join(reader.read(at, min(at + step, 3 * CHUNK - 5)) for at in range(0, 3 * CHUNK - 5, step))
    assert [stop - start for start, stop in kept.reads] == [SEALED, SEALED, SEALED - 5]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_changed_chunk_gives_nothing_and_the_others_all(number: int) -> None:
    kept = Kept(3 * CHUNK)
    kept.envelope[HEADER.size + number * SEALED + 99] ^= 1
    reader = kept.reader()
    for each in range(3):
        part = slice(each * CHUNK, (each + 1) * CHUNK)
        if each == number:
            with pytest.raises(RemoteError, match="not authentic"):
                reader.read(part.start, part.start + 1)
        else:
            assert reader.read(part.start, part.stop) == payload(3 * CHUNK)[part]


def test_a_chunk_in_another_ones_place_is_refused() -> None:
    kept = Kept(3 * CHUNK)
    start = HEADER.size
    kept.envelope[start : start + SEALED], kept.envelope[start + SEALED : start + 2 * SEALED] = (
        kept.envelope[start + SEALED : start + 2 * SEALED],
        kept.envelope[start : start + SEALED],
    )
    with pytest.raises(RemoteError, match="not authentic"):
        kept.reader().read(0, 1)
