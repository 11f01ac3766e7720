"""The one place where wall time decides something: whether this node may train now, by the machine's local time."""

from collections.abc import Callable
from datetime import datetime, timedelta

from appliance.rounds.training import Closed
from appliance.words.hours import DAY, Hours, in_words
from appliance.words.ids import Monotonic

LocalTime = Callable[[], datetime]
"""Returns now as clocks on the wall show it here: without a time zone, in the machine's local time."""


class TrainingHours:
    """Compares the settings' hours with the clock on the wall, anew each time: a clock that is set, or that changes to
    summer time, takes effect at once, and nothing is ever counted with it."""

    def __init__(self, hours: tuple[str, ...], local_time: LocalTime = datetime.now) -> None:
        """``hours`` as ``Training.hours``; they were checked when the configuration was read."""
        self._local_time = local_time
        self.set(hours)

    def set(self, hours: tuple[str, ...]) -> None:
        """Train in these hours from now on."""
        self._hours = Hours(hours)

    def closed(self, now: Monotonic) -> Closed | None:
        """Return until when this node may not train; None if it may now."""
        local = self._local_time()
        minute = local.weekday() * DAY + local.hour * 60 + local.minute
        if self._hours.is_open(minute):
            return None
        wait = self._hours.opens_in(minute)
        opens = local.replace(second=0, microsecond=0) + timedelta(minutes=wait)
        # timestamp() knows of summer time: what lies ahead may be an hour more or less than the wall's difference.
        return Closed(in_words(minute, wait), Monotonic(now + opens.timestamp() - local.timestamp()))
