"""What waits to be sent to one peer: bounded in bytes, the oldest goes first when it overflows."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from appliance.words.parts import Parts


@dataclass(frozen=True, slots=True)
class Parcel:
    """An encoded message, in parts, and whom to call when it could not be delivered."""

    parts: Parts
    undelivered: Callable[[], None] | None = None

    @property
    def size(self) -> int:
        """Length of the message in bytes."""
        return sum(map(len, self.parts))


class SendQueue:
    """A first-in, first-out queue of encoded messages.

    The newest matter most: an opening supersedes the one before it, and whoever still needs an old message says it
    again. So an overflow drops the oldest, and only a message that alone exceeds the bound is itself refused.

    Attributes:
        dropped: messages that gave way so far.
    """

    def __init__(self, bound_bytes: int) -> None:
        self.dropped = 0
        self._bound = bound_bytes
        self._size = 0
        self._messages: deque[Parcel] = deque()
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def put(self, message: Parcel) -> None:
        """Append a message."""
        if message.size > self._bound:
            self.dropped += 1
            return
        self._messages.append(message)
        self._size += message.size
        while self._size > self._bound:
            self._size -= self._messages.popleft().size
            self.dropped += 1
        self._filled.set()
        self._idle.clear()

    async def get(self) -> Parcel:
        """Take the oldest message; waits for one. Asking for the next says that the last one is dealt with."""
        if not self._messages:
            self._filled.clear()
            self._idle.set()
            await self._filled.wait()
        message = self._messages.popleft()
        self._size -= message.size
        return message

    async def drained(self) -> None:
        """Wait until every message was taken and dealt with."""
        await self._idle.wait()
