"""Who counts in a round: the members, which of them are live, and how many make a majority and a quorum."""

from appliance.rounds.collected import Collected
from appliance.words.ids import NodeName


class Electorate:
    """The voting members, as the leader sees them.

    Args:
        node: the leader itself, which is always live.
        quorum: updates that a round needs; None is a majority.
        least_updates: what the strategy needs: the quorum is never below it, even with members removed.
    """

    def __init__(self, node: NodeName, members: frozenset[NodeName], quorum: int | None, least_updates: int) -> None:
        self._node = node
        self._configured_quorum = quorum
        self._least_updates = least_updates
        self.members = members
        self.live_peers: frozenset[NodeName] = frozenset()

    def set_members(self, members: frozenset[NodeName]) -> None:
        """Count among these from now on."""
        self.members = members
        self.live_peers &= members

    def set_quorum(self, quorum: int | None) -> None:
        """Need so many updates from now on; None is a majority."""
        self._configured_quorum = quorum

    def set_live(self, live: frozenset[NodeName]) -> None:
        """These nodes are heard."""
        self.live_peers = live & self.members - {self._node}

    @property
    def me(self) -> frozenset[NodeName]:
        """The leader, as one of those whose disks count; nobody if it is being removed."""
        return self.members & {self._node}

    @property
    def majority(self) -> int:
        """How many disks must hold a candidate."""
        return len(self.members) // 2 + 1

    @property
    def quorum(self) -> int:
        """How many updates a round needs."""
        return max(self._configured_quorum or self.majority, self._least_updates)

    def expected(self, round_: Collected) -> int:
        """Return how many updates can come: one from each live node that can train, the leader among them."""
        return len(self._able(round_))

    def still_trains(self, round_: Collected) -> bool:
        """Tell whether a node that is waited for has not finished its update."""
        return bool(self._able(round_) - round_.finished)

    def _able(self, round_: Collected) -> frozenset[NodeName]:
        return (self.live_peers | {self._node}) - round_.unable
