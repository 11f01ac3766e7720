"""Whether the node's threads move: what must hold before systemd's watchdog is told that the node lives (pure)."""

from appliance.words.ids import Monotonic

CONSENSUS_HANGS_AFTER_S = 60.0
"""Consensus wakes with every heartbeat; only a disk that takes this long for one write holds it."""
AGGREGATOR_HANGS_AFTER_S = 120.0
"""No job of the aggregator takes more than seconds."""
PARTICIPANT_HANGS_AFTER_S = 300.0
"""Training may take hours, one mini-batch of it not: nor reading the base, judging, and keeping the update."""


class Pulse:
    """One thing that has to go on: it is idle, or what it counts has grown within ``hangs_after_s``."""

    def __init__(self, hangs_after_s: float, now: Monotonic) -> None:
        self._hangs_after_s = hangs_after_s
        self._moved_at = now
        self._count = -1

    def moves(self, count: int, now: Monotonic, *, is_idle: bool = False) -> bool:
        """Tell whether it goes on. ``count``: of its steps so far, such as mini-batches."""
        if is_idle or count != self._count:
            self._moved_at, self._count = now, count
        return now - self._moved_at < self._hangs_after_s
