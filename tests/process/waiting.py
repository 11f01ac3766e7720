"""The one way in which these tests wait: for a condition, with a bound, and with words for what did not come."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05


def until(condition: Callable[[], T | None], what: str, *, within_s: float = 30.0, every_s: float = POLL_S) -> T:
    """Return the condition's first true value; fails, saying ``what``, after ``within_s`` seconds."""
    end = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {within_s:g} s: {what}; last seen: {value!r}")
        time.sleep(every_s)


def throughout(condition: Callable[[], object], what: str, *, for_s: float) -> None:
    """Fail, saying ``what``, as soon as the condition is not true within the next ``for_s`` seconds."""
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        value = condition()
        assert value, f"{what}: {value!r}"
        time.sleep(POLL_S)


def pass_time(seconds: float) -> None:
    """Let a chosen time pass before a fault, where the fault's moment is what a test varies."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, "time to pass", within_s=seconds + 60, every_s=0.002)
