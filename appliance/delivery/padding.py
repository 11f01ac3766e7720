"""Content for the leader, padded: all updates of a round have one length, whatever is in them. Pure.

0  8  length of the message, big-endian
8  n  the message
...   zeros
"""

from appliance.words.errors import RemoteError
from appliance.words.parts import Content

LENGTH_BYTES = 8
BLOCK = 4096
"""Padded content is a multiple of this; what stands beside the weights in an update takes less than one (3 KiB)."""


def padded_length(weights: int) -> int:
    """Return the length of an update's padded content, the same for all whose weights have this many bytes."""
    return -(-weights // BLOCK) * BLOCK + BLOCK


def pad(length: int, *message: Content) -> list[Content]:
    """Return a message, which may come in parts, in content of ``length`` bytes: its parts, none of them copied.

    Raises:
        ValueError: it is longer than that; the caller's mistake.
    """
    size = sum(map(len, message))
    if size + LENGTH_BYTES > length:
        raise ValueError(f"a message of {size} bytes can't be padded to {length}")
    return [size.to_bytes(LENGTH_BYTES, "big"), *message, bytes(length - LENGTH_BYTES - size)]


def unpad(content: Content) -> memoryview:
    """Return the message in padded content, without a copy.

    Raises:
        RemoteError: it is none, or what follows the message is not only zeros: one content has one encoding.
    """
    view = memoryview(content)
    end = LENGTH_BYTES + int.from_bytes(view[:LENGTH_BYTES], "big")
    if len(view) < LENGTH_BYTES or end > len(view):
        raise RemoteError("envelope: its content is cut short")
    if bytes(view[end:]).strip(b"\0"):
        raise RemoteError("envelope: its padding is not empty")
    return view[LENGTH_BYTES:end]
