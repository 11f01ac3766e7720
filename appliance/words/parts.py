"""Encodes (msgpack) without a copy of what is large.

What may be as large as a model is a ``memoryview``, and the last field of its structure. Parsed, it is a view into the
bytes that were there; encoded, it stays a part of its own. To copy hundreds of MB takes memory that a node may not
have, and holds the interpreter for so long that consensus would miss a leader.
"""

import functools

import msgspec
from msgspec import Struct

Parts = tuple[bytes | memoryview, ...]
"""Bytes in their order, not joined."""

NOTHING = memoryview(b"")


def encode_parts(content: Struct) -> Parts:
    """Return what msgpack makes of a structure; its large field, if it has one, is the last part."""
    name = _large_field(type(content))
    if name is None:
        return (msgspec.msgpack.encode(content),)
    large: memoryview = getattr(content, name)
    rest = msgspec.msgpack.encode(msgspec.structs.replace(content, **{name: NOTHING}))
    return rest[: -len(_bin_head(0))] + _bin_head(len(large)), large


@functools.cache
def _large_field(kind: type[Struct]) -> str | None:
    fields = msgspec.structs.fields(kind)
    return fields[-1].name if fields and fields[-1].type is memoryview else None


def _bin_head(length: int) -> bytes:
    """Return what msgpack puts before so many bytes (its specification, "bin format family")."""
    size, code = (1, 0xC4) if length < 2**8 else (2, 0xC5) if length < 2**16 else (4, 0xC6)
    return bytes([code]) + length.to_bytes(size, "big")
