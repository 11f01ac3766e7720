"""Stands between a conductor and who calls it, until the conductor is made."""

from collections.abc import Mapping

from appliance.consensus.messages import Entry
from appliance.consensus.ready import Role
from appliance.mesh.head import Head
from appliance.node.conductor import Conductor
from appliance.words.ids import NodeName, Term
from appliance.words.messages import MeshMessage
from appliance.words.settings import Member


class Relay:
    """What mesh and consensus call: they are made before the conductor, which needs both."""

    def __init__(self) -> None:
        self.target: Conductor | None = None

    def on_message(self, peer: NodeName, message: MeshMessage) -> None:
        """Pass a message on; one that comes before the node is ready is lost, and will be sent again."""
        if self.target is not None:
            self.target.on_message(peer, message)

    def wants(self, peer: NodeName, head: Head) -> str | None:
        """Pass on what the mesh asks of a message that begins."""
        return "this node is not ready" if self.target is None else self.target.wants(peer, head)

    # Consensus calls nobody before its own task runs, and the conductor is there by then.

    def on_role(self, role: Role, term: Term, leader: NodeName | None) -> None:
        self._conductor.on_role(role, term, leader)

    def on_committed(self, entries: tuple[Entry, ...]) -> None:
        self._conductor.on_committed(entries)

    def on_members(self, members: Mapping[NodeName, Member]) -> None:
        self._conductor.on_members(members)

    def snapshot(self) -> bytes:
        return self._conductor.snapshot()

    def restore(self, state: bytes) -> None:
        self._conductor.restore(state)

    def fetch_snapshot(self, leader: NodeName) -> None:
        self._conductor.fetch_snapshot(leader)

    @property
    def _conductor(self) -> Conductor:
        assert self.target is not None  # noqa: S101 - see above
        return self.target
