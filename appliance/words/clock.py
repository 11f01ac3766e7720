"""Time as an argument: cores get a ``Monotonic``; only shells own a clock."""

import time
from typing import Protocol

from appliance.words.ids import Monotonic


class Clock(Protocol):
    """Monotonic seconds (design.md, invariant 10)."""

    def __call__(self) -> Monotonic:
        """Return now; never falls."""


def system_clock() -> Monotonic:
    """Return the operating system's monotonic time."""
    return Monotonic(time.monotonic())
