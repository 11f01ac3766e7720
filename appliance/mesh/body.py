"""Where the bytes of a message go while they come: into memory, or if they are many, into a file.

A message may be as large as a model, and each peer may be sending one: together they would take more memory than the
node has. The system keeps a file's bytes in memory as long as there is room, and no longer.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

LONG_BYTES = 16 * 1024 * 1024
"""From this length on, a message goes into a file."""


class SpoolFile(Protocol):
    """A file that is nobody else's, and is gone when nobody holds it any more."""

    def write(self, part: bytes) -> None:
        """Append. Blocks; raises StateError."""

    def content(self) -> memoryview:
        """Return all that was written, mapped into memory. Raises StateError."""


Spool = Callable[[], SpoolFile]
"""Makes a file. Blocks; raises StateError."""


class Body:
    """The bytes of one message, of which the length is known from its beginning."""

    def __init__(self, length: int, spool: Spool | None) -> None:
        """``spool``: None to keep messages of any length in memory."""
        self._spool = spool if length >= LONG_BYTES else None
        self._file: SpoolFile | None = None
        self._memory = memoryview(bytearray(length if self._spool is None else 0))
        self._filled = 0

    async def write(self, part: bytes) -> None:
        """Take in what comes next. Raises StateError."""
        if self._spool is None:
            self._memory[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            return
        if self._file is None:
            self._file = await asyncio.to_thread(self._spool)
        await asyncio.to_thread(self._file.write, part)

    def content(self) -> memoryview:
        """Return the message, all of which was written. Raises StateError."""
        return self._memory if self._file is None else self._file.content()
