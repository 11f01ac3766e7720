"""The payload in chunks, each sealed with AES-256-GCM (the STREAM construction, as in the age file format).

A chunk's nonce is the stream's 7-byte prefix, the chunk's number (4 bytes, big-endian, from 0) and a byte that is 1 on
the last chunk and 0 on all others. So a chunk that is cut off, moved, doubled or appended fails to open. Every chunk
but the last is full; the last is not empty, except when it is the only one. Each envelope has one encoding only.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.envelopes.format import Content
from appliance.words.errors import RemoteError

# Measured: from 128 KiB on, the per-chunk cost in Python is lost in the noise; and a chunk stays in a core's cache.
CHUNK = 256 * 1024
TAG = 16
PREFIX_BYTES = 7
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
