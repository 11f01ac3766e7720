"""One log line for a thing that may happen a thousand times a second."""

from collections import OrderedDict
from collections.abc import Hashable

from appliance.words.ids import Monotonic

_REMEMBERED = 256


class Throttle:
    """Allows each key once in ``interval_s`` seconds; memory is bounded, the longest-unseen key is forgotten first."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._allowed_at: OrderedDict[Hashable, Monotonic] = OrderedDict()

    def allows(self, key: Hashable, now: Monotonic) -> bool:
        """Tell whether it is this key's turn, and if so, start its interval."""
        last = self._allowed_at.get(key)
        if last is not None and now - last < self._interval_s:
            return False
        self._allowed_at[key] = now
        self._allowed_at.move_to_end(key)
        if len(self._allowed_at) > _REMEMBERED:
            self._allowed_at.popitem(last=False)
        return True
