"""What the mesh says in the log about its peers' faults: each once a minute, and few for each peer."""

import logging

from appliance.mesh.rates import Turnstile
from appliance.mesh.throttle import Throttle
from appliance.words.clock import Clock

_log = logging.getLogger(__name__)
_INTERVAL_S = 60.0
_KINDS_PER_MINUTE = 30

STRANGERS = "strangers"
"""Whoever has not shown a member's certificate, taken together: their addresses are theirs to choose."""


class Complaints:
    """Says each complaint about a peer once a minute, and few different ones: a reason may hold the peer's numbers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turns = Throttle(_INTERVAL_S)
        self._kinds = Turnstile(_KINDS_PER_MINUTE / _INTERVAL_S, _KINDS_PER_MINUTE)

    def say(self, peer: str, reason: str, latest: str = "") -> None:
        """Log a warning, if it is its turn.

        Args:
            peer: a member's name, or ``STRANGERS``.
            latest: whom it is about, where that is many: the latest of them is shown.
        """
        now = self._clock()
        if self._turns.allows((peer, reason), now) and self._kinds.admits(peer, now):
            who = f"{peer} (the latest: {latest})" if latest else peer
            _log.warning("mesh: %s: %s (said at most once a minute)", who, reason, extra={"peer": peer})

    def bug(self, error: BaseException) -> None:
        """Log a fault of our own with its traceback: once a minute too, since who can cause it can cause it often."""
        if self._turns.allows(type(error).__name__, self._clock()):
            _log.error("mesh: a request could not be dealt with", exc_info=error)
