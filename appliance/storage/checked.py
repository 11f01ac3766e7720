"""A file that is whole or is none: a line that names its format, the SHA-256 of the rest, and the rest."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from appliance.storage.files import read_if_there, remove_durably, write_atomically

T = TypeVar("T")


class Absent(Struct, frozen=True):
    """Why there is nothing to return.

    Attributes:
        reason: one sentence for the log.
        damaged: whether something was there, failed its check, and was removed; worth a warning.
    """

    reason: str
    damaged: bool = False


def write_checked(path: Path, magic: bytes, *parts: bytes | memoryview) -> None:
    """Make a file durable in place of the one before it; its parts are not joined in memory. Raises StateError."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    write_atomically(path, (magic, digest.digest(), *parts))


def read_checked(path: Path, magic: bytes, decode: Callable[[memoryview], T]) -> T | Absent | None:
    """Return what ``decode`` makes of a file that ``write_checked`` wrote, None if there is none.

    One that is damaged, or that ``decode`` takes for none of its kind (an exception of msgspec's, as for what another
    version of this program wrote), is removed. Raises StateError.
    """
    content = read_if_there(path)
    if content is None:
        return None
    start = len(magic) + hashlib.sha256().digest_size
    rest = memoryview(content)[start:]
    if content[:start] == magic + hashlib.sha256(rest).digest():
        try:
            return decode(rest)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # whole, but of another shape
    remove_durably(path)
    return Absent(f"{path} was damaged or of another version, and was removed", damaged=True)
