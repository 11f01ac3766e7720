"""The port through which consensus reaches what it is for."""

from collections.abc import Mapping
from typing import Protocol

from appliance.consensus.messages import Entry
from appliance.consensus.ready import Role
from appliance.words.ids import NodeName, Term
from appliance.words.settings import Member


class Application(Protocol):
    """What the committed entries are applied to. All of it is called on the event loop, and must not block it.

    An error that any of these raises ends consensus on this node, as a disk that fails does.
    """

    def on_role(self, role: Role, term: Term, leader: NodeName | None) -> None:
        """This node's role, its term, or the leader it knows has changed."""

    def on_committed(self, entries: tuple[Entry, ...]) -> None:
        """Entries are committed: in order, each once a process, at the start all that are known to be committed.

        Entries without meaning to the application (kinds ``no-op`` and ``members``) are among them.
        """

    def on_members(self, members: Mapping[NodeName, Member]) -> None:
        """These are the nodes of the cluster now, this one among them unless it was removed; told at the start too."""

    def snapshot(self) -> bytes:
        """Return all that the committed entries so far amount to."""

    def restore(self, state: bytes) -> None:
        """Replace everything by what ``snapshot`` returned, here before a restart, or on the leader."""

    def fetch_snapshot(self, leader: NodeName) -> None:
        """Ask the leader for its newest snapshot; what it answers goes to ``ConsensusDriver.install``."""
