"""Envelopes of any size in bounded memory: sealed and opened piece by piece. The bytes are those of ``seal``.

What ``Opener`` gives out has been verified; what has not been, never leaves it. Only ``finish`` tells that the stream
is whole: who uses pieces before that must be ready to throw them away.
"""

from collections.abc import Callable, Iterable, Iterator

from appliance.envelopes.format import Header, format_header, parse_header, peek_header
from appliance.envelopes.stream import CHUNK, TAG, ChunkCipher
from appliance.words.errors import RemoteError
from appliance.words.parts import Content

_FIXED_HEADER = 72
_SEALED = CHUNK + TAG


def seal_pieces(pieces: Iterable[Content], content_key: bytes, header: Header) -> Iterator[bytes]:
    """Yield an envelope: its header, then its chunks.

    Args:
        pieces: the payload, cut anywhere.
        content_key: 32 bytes, wrapped in the header or known to the recipient.
        header: its salt must be fresh.
    """
    head = format_header(header)
    yield head
    cipher = ChunkCipher(content_key, header, head)
    chunks = _Chunks(CHUNK)
    for piece in pieces:
        for chunk in chunks.take(piece):
            yield cipher.seal(chunk, last=False)
    yield cipher.seal(chunks.rest, last=True)


class _Chunks:
    """Cuts pieces of any size into chunks of one size, and copies only what lies across two pieces."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.rest = bytearray()

    def take(self, piece: Content) -> Iterator[Content]:
        """Yield the chunks that are known not to be the last: there is more behind each of them."""
        view = memoryview(piece)
        while len(self.rest) + len(view) > self._size:
            missing = self._size - len(self.rest)
            if self.rest:
                self.rest += view[:missing]
                whole, self.rest = self.rest, bytearray()
                yield whole
            else:
                yield view[:missing]
            view = view[missing:]
        self.rest += view


class Opener:
    """Opens an envelope that comes in pieces, cut anywhere.

    Args:
        content_key_of: returns the content key for a header; raises RemoteError if the envelope is for another key.
    """

    def __init__(self, content_key_of: Callable[[Header], bytes]) -> None:
        self._content_key_of = content_key_of
        self._cipher: ChunkCipher | None = None
        self._head = bytearray()
        self._chunks = _Chunks(_SEALED)
        self._failure: RemoteError | None = None

    def feed(self, piece: Content) -> list[bytes]:
        """Take in a piece; return the chunks of the payload that are verified by it.

        Raises:
            RemoteError: not one byte of what is still to come may be trusted, nor the whole; also at each later call.
        """
        return self._guarded(lambda: self._feed(piece))

    def finish(self) -> bytes:
        """Say that there is no more; return the payload's last chunk. Raises RemoteError if the stream is cut."""
        [last] = self._guarded(self._finish)
        return last

    def _guarded(self, work: Callable[[], list[bytes]]) -> list[bytes]:
        if self._failure is not None:
            raise self._failure
        try:
            return work()
        except RemoteError as error:
            self._failure = error
            raise

    def _feed(self, piece: Content) -> list[bytes]:
        cipher = self._cipher
        if cipher is None:
            self._head += piece
            cipher = self._cipher = self._read_header()
            if cipher is None:
                return []
            piece, self._head = self._head, bytearray()
        return [cipher.open(chunk, last=False) for chunk in self._chunks.take(piece)]

    def _read_header(self) -> ChunkCipher | None:
        """Take the header off the first bytes, once it is there whole."""
        if len(self._head) < _FIXED_HEADER:
            return None
        size = _FIXED_HEADER + peek_header(self._head).wrapped_length
        if len(self._head) < size:
            return None
        header = parse_header(self._head)
        cipher = ChunkCipher(self._content_key_of(header), header, bytes(self._head[:size]))
        del self._head[:size]
        return cipher

    def _finish(self) -> list[bytes]:
        rest = self._chunks.rest
        if self._cipher is None:
            raise RemoteError("envelope: cut short in its header")
        if len(rest) < TAG or (self._cipher.number > 0 and len(rest) == TAG):
            raise RemoteError("envelope: cut short, or its last chunk is empty")
        chunk = self._cipher.open(rest, last=True)
        self._failure = RemoteError("envelope: is opened already")
        return [chunk]
