"""Bytes that may be as large as a model: encoded (msgpack) without a copy, and joined where one is needed.

What is large is a ``memoryview``, and the last field of its structure. Parsed, it is a view into the bytes that were
there; encoded, it stays a part of its own. To copy hundreds of MB takes memory that a node may not have, and in one go
holds the interpreter for so long that consensus would miss a leader.
"""

import functools
import io
from collections.abc import Iterable

import msgspec
from msgspec import Struct

Content = bytes | bytearray | memoryview
"""Bytes; a memoryview must be contiguous and of single bytes."""

Parts = tuple[bytes | memoryview, ...]
"""Bytes in their order, not joined."""

NOTHING = memoryview(b"")

_PIECE = 1024 * 1024


def encode_parts(content: Struct) -> Parts:
    """Return what msgpack makes of a structure; its large field, if it has one, is the last part."""
    name = _large_field(type(content))
    if name is None:
        return (msgspec.msgpack.encode(content),)
    large: memoryview = getattr(content, name)
    rest = msgspec.msgpack.encode(msgspec.structs.replace(content, **{name: NOTHING}))
    return rest[: -len(_bin_head(0))] + _bin_head(len(large)), large


def join(parts: Iterable[bytes | memoryview], length: int) -> bytes:
    """Return parts as one; other threads go on meanwhile, as they do not in ``bytes.join``.

    Args:
        parts: each of single bytes.
        length: of all of them together.
    """
    buffer = blank(length)
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _PIECE):
            buffer.write(view[start : start + _PIECE])
    return buffer.getvalue()


def blank(length: int) -> io.BytesIO:
    """Return a buffer whose ``getvalue`` is the bytes themselves: CPython's BytesIO copies neither in nor out.

    A bytearray would have to be copied to become bytes, which costs as much as encryption.
    """
    return io.BytesIO(bytes(length))


@functools.cache
def _large_field(kind: type[Struct]) -> str | None:
    fields = msgspec.structs.fields(kind)
    return fields[-1].name if fields and fields[-1].type is memoryview else None


def _bin_head(length: int) -> bytes:
    """Return what msgpack puts before so many bytes (its specification, "bin format family")."""
    size, code = (1, 0xC4) if length < 2**8 else (2, 0xC5) if length < 2**16 else (4, 0xC6)
    return bytes([code]) + length.to_bytes(size, "big")
