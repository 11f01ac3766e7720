"""How much of this node's time a peer may take: token buckets. Pure: time is an argument."""

from collections import OrderedDict
from collections.abc import Hashable

from msgspec import Struct

from appliance.words.ids import Monotonic

PATIENCE_S = 10.0
"""Who owes without a rest for this long goes on on purpose."""
REFUSED_S = 10.0
"""For how long such a peer is refused then."""

_BURST_S = 10.0
_EASY_BYTES_PER_S = 64 * 1024 * 1024
_REMEMBERED = 1024


class TokenBucket:
    """Tokens that come at a steady rate, up to a capacity; it begins full.

    Attributes:
        capacity: tokens that may be spent at once after a rest.
    """

    def __init__(self, per_second: float, capacity: float, now: Monotonic) -> None:
        self.capacity = capacity
        self._per_second = per_second
        self._level = capacity
        self._at = now

    def level(self, now: Monotonic) -> float:
        """Return the tokens that are there; below zero they are owed."""
        self._level = min(self.capacity, self._level + (now - self._at) * self._per_second)
        self._at = now
        return self._level

    def spend(self, amount: float, now: Monotonic) -> float:
        """Take tokens, also such as are not there; return the seconds until nothing is owed."""
        self._level = self.level(now) - amount
        return max(0.0, -self._level / self._per_second)

    def spend_if_there(self, now: Monotonic) -> bool:
        """Take one token if one is there, and tell."""
        if self.level(now) < 1:
            return False
        self._level -= 1
        return True


class Limits(Struct, frozen=True):
    """What one peer may send: a steady rate, and what may come at once after a rest."""

    messages_per_s: float
    messages_at_once: float
    bytes_per_s: float
    bytes_at_once: float


def limits_of(members: int, max_message_bytes: int) -> Limits:
    """Return what a peer in a cluster of this size may send, so that no honest round ever waits.

    In one round a peer may send a model for each member (as leader to those who fetch it, or handing on what others
    seal) and its own two (update, candidate); with their receipts, tokens, openings and answers that is about four
    messages for each member. All of one such round, with the longest messages allowed, may come at once, twice over;
    the steady rate is such a round in each second, or what a machine takes in beside its work, whichever is less, and
    at least one message.
    """
    messages_per_s = 20.0 + 4.0 * members
    round_bytes = (members + 2) * max_message_bytes
    return Limits(
        messages_per_s=messages_per_s,
        messages_at_once=_BURST_S * messages_per_s,
        bytes_per_s=float(max(max_message_bytes, min(round_bytes, _EASY_BYTES_PER_S))),
        bytes_at_once=2.0 * round_bytes,
    )


class Allowance:
    """What one peer may still send. Over its rate it waits; when it goes on all the same, it is refused for a while."""

    def __init__(self, limits: Limits, now: Monotonic) -> None:
        self._messages = TokenBucket(limits.messages_per_s, limits.messages_at_once, now)
        self._bytes = TokenBucket(limits.bytes_per_s, limits.bytes_at_once, now)
        self._owes_since: Monotonic | None = None
        self._refused_until = now

    def spend(self, size: int, now: Monotonic, *, messages: int = 1) -> float:
        """Count a message of ``size`` bytes; return for how many seconds nothing more is to be read from this peer."""
        wait_s = max(self._messages.spend(messages, now), self._bytes.spend(size, now))
        if self._has_rested(now):
            self._owes_since = None
        elif wait_s > 0 and self._owes_since is None:
            self._owes_since = now
        elif self._owes_since is not None and now - self._owes_since > PATIENCE_S:
            self._owes_since = None
            self._refused_until = Monotonic(now + REFUSED_S)
        return wait_s

    def refused_s(self, now: Monotonic) -> float:
        """Return for how many seconds more the peer is refused; 0 if it is not."""
        return max(0.0, self._refused_until - now)

    def _has_rested(self, now: Monotonic) -> bool:
        return all(bucket.level(now) >= bucket.capacity / 2 for bucket in (self._messages, self._bytes))


class Turnstile:
    """Lets each source through at a steady rate. Memory is bounded: the longest-unseen source is forgotten first."""

    def __init__(self, per_second: float, at_once: float) -> None:
        self._per_second = per_second
        self._at_once = at_once
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def admits(self, source: Hashable, now: Monotonic) -> bool:
        """Tell whether it is this source's turn, and if so, count it."""
        bucket = self._buckets.get(source)
        if bucket is None:
            bucket = self._buckets[source] = TokenBucket(self._per_second, self._at_once, now)
        self._buckets.move_to_end(source)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket.spend_if_there(now)
