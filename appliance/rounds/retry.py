"""When to ask again: at growing intervals, up to a bound."""

from appliance.words.ids import Monotonic


class Retry:
    """Doubling intervals between tries of one thing."""

    def __init__(self, *, first_s: float, most_s: float) -> None:
        """Wait ``first_s`` seconds after the first try, then twice as long each time, at most ``most_s``."""
        self._first_s = first_s
        self._most_s = most_s
        self._target: object = None
        self.reset()

    def takes(self, target: object, now: Monotonic) -> bool:
        """Tell whether to try now for ``target``, and count that; for another one than before it starts anew."""
        if target != self._target:
            self._target = target
            self.reset()
        if not self.due(now):
            return False
        self.schedule(now)
        return True

    def due(self, now: Monotonic) -> bool:
        """Tell whether it is time for a try."""
        return now >= self.at

    def schedule(self, now: Monotonic) -> None:
        """Count a try that is made now, and set the time of the next."""
        # The exponent is bounded too: after a thousand tries, some hours, the power would overflow a float.
        self.at = Monotonic(now + min(self._first_s * 2.0 ** min(self.tries, 30), self._most_s))
        self.tries += 1

    def put_off(self, until: Monotonic) -> None:
        """Try no sooner than this; it counts as no try."""
        self.at = until

    def reset(self) -> None:
        """Start anew: the next try is due at once."""
        self.tries = 0
        self.at = Monotonic(float("-inf"))
