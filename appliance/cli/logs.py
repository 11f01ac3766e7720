"""Where the daemon's log goes: to the journal, with fields, if systemd reads it; else to standard error, for people."""

import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Hashable

from appliance.systemd.journal import PRIORITIES, JournalHandler
from appliance.words.clock import Clock, system_clock
from appliance.words.ids import Monotonic

REPEATED_EVERY_S = 60.0
_REMEMBERED = 256


def set_up(level: str) -> JournalHandler | None:
    """Direct the log of this process; return the journal's handler, if that is where it goes."""
    handler, journal = _handler()
    handler.addFilter(Repeats(system_clock))
    logging.basicConfig(handlers=[handler])
    set_level(level)
    # asyncio logs at INFO and below what only its own developers need.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    return journal


def set_level(level: str) -> None:
    """Log from this level on (``logging.level``)."""
    logging.getLogger().setLevel(level.upper())


def _handler() -> tuple[logging.Handler, JournalHandler | None]:
    if "JOURNAL_STREAM" in os.environ:
        try:
            journal = JournalHandler()
        except OSError:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(PriorityFormatter("%(message)s"))
            return handler, None
        return journal, journal
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    return handler, None


class PriorityFormatter(logging.Formatter):
    """One event a line with its priority in front (sd-daemon(3)), where a journal reads it but can't be talked to."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, each with its priority."""
        priority = f"<{PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(priority + line for line in super().format(record).splitlines())


class Repeats(logging.Filter):
    """Lets the same line through once a minute, and then says how often it was left out.

    A record whose ``extra`` has ``is_news`` always passes: a peer that goes down twice in a minute went down twice.
    """

    def __init__(self, clock: Clock, interval_s: float = REPEATED_EVERY_S) -> None:
        super().__init__()
        self._clock = clock
        self._interval_s = interval_s
        self._said: OrderedDict[Hashable, tuple[Monotonic, int]] = OrderedDict()
        self._lock = threading.Lock()  # records come from several threads

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is to be logged; adds the count of those that were not."""
        if getattr(record, "is_news", False):
            return True
        now, text = self._clock(), record.getMessage()
        with self._lock:
            said_at, left_out = self._said.get((record.levelno, text), (None, 0))
            if said_at is not None and now - said_at < self._interval_s:
                self._said[record.levelno, text] = said_at, left_out + 1
                return False
            self._said[record.levelno, text] = now, 0
            self._said.move_to_end((record.levelno, text))
            if len(self._said) > _REMEMBERED:
                self._said.popitem(last=False)
        if left_out:
            record.msg, record.args = f"{text} ({left_out} more since this was last said)", ()
        return True
