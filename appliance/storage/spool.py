"""Bytes that are too many for memory, and need not outlive the process: in files without a name."""

import mmap
import os
import tempfile
import weakref
from pathlib import Path

from appliance.storage.files import state_error, write_fully
from appliance.words.errors import StateError
from appliance.words.parts import Content


def _nameless(folder: Path, content: Content) -> int:
    """Return the handle of a new file that has no name, and begins with this content. Raises StateError."""
    try:
        with tempfile.TemporaryFile(prefix=".", suffix=".tmp", dir=folder, buffering=0) as file:
            write_fully(file.fileno(), content)
            return os.dup(file.fileno())
    except OSError as error:
        raise state_error("write in", folder, error) from error


class Spooled:
    """Content in a file without a name: its space is free again when it is closed, or the process ends in any way.

    Not durable, nor readable for anyone else. Raises StateError.
    """

    def __init__(self, folder: Path, content: Content) -> None:
        self._folder = folder
        self.size = len(content)
        self._handle = _nameless(folder, content)
        self._closing = weakref.finalize(self, os.close, self._handle)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from ``start`` up to ``stop``."""
        if not self._closing.alive:
            raise ValueError("it is closed")
        try:
            content = os.pread(self._handle, stop - start, start)
        except OSError as error:
            raise state_error("read in", self._folder, error) from error
        if len(content) < stop - start:
            raise StateError(f"can't read in {self._folder}: a file ends before its content does")
        return content

    def close(self) -> None:
        """Give the space back; so does the end of this object."""
        self._closing()


class SpoolFile:
    """Content that comes part by part, in a file without a name, and is then mapped into memory.

    Its space is free again when nobody holds it any more, nor a view of its content, or the process ends in any way.
    Not durable, nor readable for anyone else. Raises StateError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle = _nameless(folder, b"")
        weakref.finalize(self, os.close, self._handle)

    def write(self, part: bytes) -> None:
        """Append."""
        try:
            write_fully(self._handle, part)
        except OSError as error:
            raise state_error("write in", self._folder, error) from error

    def content(self) -> memoryview:
        """Return all that was written, of which there must be some."""
        try:
            return memoryview(mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise state_error("read in", self._folder, error) from error
