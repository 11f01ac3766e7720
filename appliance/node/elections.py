"""The state changes that this node saw, for ``/v1/elections`` (paper: Table II)."""

from collections import deque

import msgspec
from msgspec import Struct

from appliance.words.ids import NodeName, Term

KEPT = 1000


class Election(Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """One change of a node's role.

    Attributes:
        at: seconds since 1970 on the wall clock of the node that saw it.
        before, after: ``follower``, ``candidate`` or ``leader``; ``unknown`` for what this node could not see.
    """

    at: float
    term: Term
    node: NodeName
    before: str
    after: str


class Elections:
    """The last thousand changes, oldest first: its own as they happen, the other nodes' as consensus tells them."""

    def __init__(self, node: NodeName) -> None:
        self._node = node
        self._role = "follower"
        self._leader: NodeName | None = None
        self._changes: deque[Election] = deque(maxlen=KEPT)

    def observe(self, role: str, term: Term, leader: NodeName | None, at: float) -> None:
        """Note this node's role and whom it follows, as of wall time ``at``."""
        if role != self._role:
            self._changes.append(Election(at, term, self._node, self._role, role))
            self._role = role
        if leader is not None and leader != self._leader:
            if self._leader is not None and self._leader != self._node:
                self._changes.append(Election(at, term, self._leader, "leader", "unknown"))
            if leader != self._node:
                self._changes.append(Election(at, term, leader, "unknown", "leader"))
            self._leader = leader

    def encode(self) -> bytes:
        """Return the changes as a JSON array."""
        return msgspec.json.encode(list(self._changes))
