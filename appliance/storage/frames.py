"""Frames: how records lie in a file so that a torn end is told from damage.

A frame is a header (magic, length, CRC-32 of length and payload) and a payload. Frames follow one another, and nothing
is ever written over.
"""

import struct
import zlib

_HEADER = struct.Struct("<4sII")
_MAGIC = b"P2L1"


def frame(payload: bytes) -> bytes:
    """Return a payload in its frame."""
    return _HEADER.pack(_MAGIC, len(payload), _checksum(payload)) + payload


def parse(content: bytes, position: int) -> tuple[bytes | None, int]:
    """Return the payload of the frame at ``position`` and where it ends; None if no whole one is there."""
    start = position + _HEADER.size
    if start > len(content):
        return None, position
    magic, length, checksum = _HEADER.unpack_from(content, position)
    payload = content[start : start + length]
    if magic != _MAGIC or len(payload) < length or _checksum(payload) != checksum:
        return None, position
    return payload, start + length


def is_torn(content: bytes, position: int) -> bool:
    """Say whether the bytes from ``position`` on can be what an unfinished write left, rather than later damage.

    An unfinished write has nothing whole after it: not one frame that a save had promised.
    """
    following = content.find(_MAGIC, position + 1)
    while following >= 0:
        if parse(content, following)[0] is not None:
            return False
        following = content.find(_MAGIC, following + 1)
    return True


def _checksum(payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<I", len(payload))))
