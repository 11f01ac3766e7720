"""Training hours: windows of the week by the clock on the wall, as the settings write them."""

import re
from dataclasses import dataclass

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY = 24 * 60
WEEK = 7 * DAY
ALLOWED = 'must look like "22:00-06:00" (each day), "Sat 00:00-24:00" or "Mon-Fri 20:00-06:00"'

_WINDOW = re.compile(
    rf"(?:(?P<first>{'|'.join(DAYS)})(?:-(?P<last>{'|'.join(DAYS)}))? )?"
    r"(?P<begin>([01]\d|2[0-3]):[0-5]\d)-(?P<end>([01]\d|2[0-3]):[0-5]\d|24:00)"
)


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes from Monday, 00:00: when it begins, and how long it lasts, which may be beyond Sunday's end."""

    begin: int
    length: int


class Hours:
    """When something may be done; without any window: always.

    A window is about what clocks on the wall show, so a change to or from summer time shortens or lengthens it by what
    the clock skips or repeats.
    """

    def __init__(self, texts: tuple[str, ...]) -> None:
        """Raises ValueError, with what is allowed, if one of the texts is no window."""
        self._windows = [window for text in texts for window in _parse(text)]

    def is_open(self, minute: int) -> bool:
        """Tell whether a minute of the week is within a window."""
        return not self._windows or any((minute - each.begin) % WEEK < each.length for each in self._windows)

    def opens_in(self, minute: int) -> int:
        """Return how many minutes after this one, on the wall, the next window begins."""
        return min(((each.begin - minute) % WEEK for each in self._windows), default=0)


def in_words(minute: int, wait: int) -> str:
    """Return the moment ``wait`` minutes after this one: "22:00" if that is unmistakable, else "Sat 22:00"."""
    day, rest = divmod((minute + wait) % WEEK, DAY)
    time = f"{rest // 60:02}:{rest % 60:02}"
    return time if wait < DAY else f"{DAYS[day]} {time}"


def _parse(text: str) -> list[Window]:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" {ALLOWED}')
    begin, end = _minutes(found["begin"]), _minutes(found["end"])
    if begin == end:
        raise ValueError(f'"{text}" begins when it ends; the whole day is "00:00-24:00"')
    length = (end - begin) % DAY or DAY
    return [Window(day * DAY + begin, length) for day in _days(found["first"], found["last"])]


def _days(first: str | None, last: str | None) -> list[int]:
    """Return the days on which a window begins: all, one, or those from one to another, across Sunday if need be."""
    if first is None:
        return list(range(7))
    begin, end = DAYS.index(first), DAYS.index(last or first)
    return [day % 7 for day in range(begin, begin + (end - begin) % 7 + 1)]


def _minutes(time: str) -> int:
    hours, minutes = time.split(":")
    return int(hours) * 60 + int(minutes)
