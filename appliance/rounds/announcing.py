"""The leader's key: which one is announced, when it is said again, and when it has served long enough."""

from appliance.rounds.actions import MakeLeaderKey
from appliance.words.ids import Monotonic, NodeName, Term
from appliance.words.messages import Announcement

BEACON_S = 1.0
"""How often the leader says again what holds: a node that just came up or lost a message learns it within this time."""


class Announcing:
    """The announcement of a term.

    Attributes:
        announcement: what participants seal to now; None until the key is made.
    """

    def __init__(self, cluster: str, node: NodeName, key_rounds: int) -> None:
        """``key_rounds``: a fresh key after this many rounds."""
        self._cluster = cluster
        self._node = node
        self._key_rounds = key_rounds
        self._rounds = 0
        self._next = Monotonic(float("-inf"))
        self.announcement: Announcement | None = None

    def renew(self, term: Term) -> MakeLeaderKey:
        """Drop the key for a fresh one: nothing under the old one can count any more."""
        self.announcement = None
        self._rounds = 0
        return MakeLeaderKey(term)

    def made(self, term: Term, key_id: bytes, public_key: bytes, now: Monotonic) -> None:
        """The key pair is there: it is said at once."""
        self.announcement = Announcement(
            cluster=self._cluster, leader=self._node, term=term, key_id=key_id, public_key=public_key
        )
        self._next = now

    def round_done(self) -> bool:
        """Count a committed round; tell whether the key has served for as many as it may."""
        self._rounds += 1
        return self._rounds >= self._key_rounds

    def is_due(self, now: Monotonic) -> bool:
        """Tell whether it is time to say again what holds."""
        return now >= self._next

    def say(self, now: Monotonic) -> Announcement | None:
        """Return what is said now, if the key is there."""
        self._next = Monotonic(now + BEACON_S)
        return self.announcement
