"""The payload in chunks, each sealed with AES-256-GCM (the STREAM construction, as in the age file format).

A chunk's nonce is the stream's 7-byte prefix, the chunk's number (4 bytes, big-endian, from 0) and a byte that is 1 on
the last chunk and 0 on all others. So a chunk that is cut off, moved, doubled or appended fails to open. Every chunk
but the last is full; the last is not empty, except when it is the only one. Each envelope has one encoding only.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.envelopes.format import Header
from appliance.words.errors import RemoteError
from appliance.words.parts import Content

# Measured: from 128 KiB on, the per-chunk cost in Python is lost in the noise; and a chunk stays in a core's cache.
CHUNK = 256 * 1024
TAG = 16
KEY_BYTES = 32
PREFIX_BYTES = 7
_STREAM_LABEL = b"p2pfl-node/stream/1"
_SEALED_CHUNK = CHUNK + TAG
_MOST_CHUNKS = 2**32


def sealed_length(payload_length: int) -> int:
    """Return how many bytes a payload takes when it is sealed."""
    return payload_length + TAG * max(1, -(-payload_length // CHUNK))


def payload_length(sealed: int) -> int:
    """Return how many bytes a sealed payload holds.

    Raises:
        RemoteError: no payload has this sealed length.
    """
    chunks = max(1, -(-sealed // _SEALED_CHUNK))
    length = sealed - TAG * chunks
    # The first case is a stream with no whole tag; the second one whose last chunk is empty, or is less than a tag.
    if length < 0 or (chunks > 1 and length <= (chunks - 1) * CHUNK) or chunks > _MOST_CHUNKS:
        raise RemoteError("envelope: cut short, or its last chunk is empty")
    return length


class ChunkCipher:
    """Seals or opens the chunks of one stream, in their order; ``open_at`` in any.

    Args:
        content_key: 32 bytes.
        header, head: of the envelope, parsed and as bytes; authenticated with every chunk.
    """

    def __init__(self, content_key: bytes, header: Header, head: bytes) -> None:
        key, self._prefix = stream_keys(content_key, header)
        self._cipher = AESGCM(key)
        self._head = head
        self.number = 0

    def seal(self, chunk: Content, *, last: bool) -> bytes:
        """Return the next chunk, sealed."""
        return self._cipher.encrypt(self._next_nonce(last=last), chunk, self._head)

    def open(self, sealed: Content, *, last: bool) -> bytes:
        """Return the next chunk, opened. Raises RemoteError if it is not authentic."""
        return self._open(self._next_nonce(last=last), sealed)

    def open_at(self, number: int, sealed: Content, *, last: bool) -> bytes:
        """Return any chunk, opened. Raises RemoteError if it is not authentic, or not this one."""
        return self._open(_nonce(self._prefix, number, last=last), sealed)

    def _open(self, nonce: bytes, sealed: Content) -> bytes:
        try:
            return self._cipher.decrypt(nonce, sealed, self._head)
        except InvalidTag:
            raise RemoteError("envelope: its content is not authentic") from None

    def _next_nonce(self, *, last: bool) -> bytes:
        if self.number >= _MOST_CHUNKS:
            raise RemoteError("envelope: is longer than any can be")
        self.number += 1
        return _nonce(self._prefix, self.number - 1, last=last)


def stream_keys(content_key: bytes, header: Header) -> tuple[bytes, bytes]:
    """Return a stream's AES key (32 bytes) and nonce prefix (7 bytes)."""
    length = KEY_BYTES + PREFIX_BYTES
    derived = HKDF(algorithm=SHA256(), length=length, salt=header.salt, info=_STREAM_LABEL).derive(content_key)
    return derived[:KEY_BYTES], derived[KEY_BYTES:]


def seal_into(key: bytes, prefix: bytes, payload: memoryview, header: bytes, out: memoryview) -> None:
    """Seal a payload into ``out``, which must be ``sealed_length(len(payload))`` bytes long.

    Args:
        key: 32 bytes, used for this stream alone.
        prefix: 7 bytes of the nonce.
        header: authenticated with every chunk.
    """
    cipher = AESGCM(key)
    chunks = max(1, -(-len(payload) // CHUNK))
    if chunks > _MOST_CHUNKS:
        raise ValueError("the payload is too long for one envelope")
    for number in range(chunks):
        chunk = payload[number * CHUNK : (number + 1) * CHUNK]
        start = number * _SEALED_CHUNK
        place = out[start : start + len(chunk) + TAG]
        cipher.encrypt_into(_nonce(prefix, number, last=number == chunks - 1), chunk, header, place)


def open_into(key: bytes, prefix: bytes, sealed: memoryview, header: Content, out: memoryview) -> None:
    """Open a sealed payload into ``out``, which must be ``payload_length(len(sealed))`` bytes long.

    Raises:
        RemoteError: a chunk is not authentic; what is in ``out`` must then be dropped.
    """
    cipher = AESGCM(key)
    chunks = max(1, -(-len(sealed) // _SEALED_CHUNK))
    try:
        for number in range(chunks):
            chunk = sealed[number * _SEALED_CHUNK : (number + 1) * _SEALED_CHUNK]
            start = number * CHUNK
            place = out[start : start + len(chunk) - TAG]
            cipher.decrypt_into(_nonce(prefix, number, last=number == chunks - 1), chunk, header, place)
    except InvalidTag:
        raise RemoteError("envelope: its content is not authentic") from None


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")
