"""Reads any part of an envelope's payload, wherever the envelope is kept: what is read is in memory, and no more."""

from collections.abc import Callable

from appliance.envelopes.format import Header, format_header
from appliance.envelopes.stream import CHUNK, TAG, ChunkCipher, payload_length

_SEALED = CHUNK + TAG


class PayloadReader:
    """Opens the chunks that a part lies in. The chunk that was opened last is kept, so reading on opens each once.

    Only authentic bytes are returned; that the envelope is whole, ``open_envelope`` tells.

    Args:
        read: returns the envelope's bytes from one place up to another.
        size: of the envelope.
        content_key: the header's, 32 bytes.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, content_key: bytes, header: Header) -> None:
        self._read = read
        self._start = header.size
        self._size = size
        self._cipher = ChunkCipher(content_key, header, format_header(header))
        self._last = max(0, -(-payload_length(size - header.size) // CHUNK) - 1)
        self._number, self._chunk = -1, b""

    def read(self, start: int, stop: int) -> bytes:
        """Return the payload's bytes from ``start`` up to ``stop``, which must lie in it.

        Raises:
            RemoteError: they are not what was sealed.
        """
        numbers = range(start // CHUNK, -(-stop // CHUNK))
        return b"".join(
            self._opened(number)[max(0, start - number * CHUNK) : stop - number * CHUNK] for number in numbers
        )

    def _opened(self, number: int) -> bytes:
        if number != self._number:
            begin = self._start + number * _SEALED
            sealed = self._read(begin, min(begin + _SEALED, self._size))
            self._chunk = self._cipher.open_at(number, sealed, last=number == self._last)
            self._number = number
        return self._chunk
