"""The port through which a node uses consensus, and the choice of what stands behind it (``consensus.engine``)."""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

from appliance.consensus.membership import Membership
from appliance.consensus.messages import Index
from appliance.datagrams.sealing import Refusal
from appliance.words.ids import NodeName, Term
from appliance.words.settings import Member


class Standing(Protocol):
    """How consensus stands on this node: its term, who its members are, and how often each has led."""

    @property
    def term(self) -> Term: ...

    @property
    def membership(self) -> Membership: ...

    @property
    def turns(self) -> dict[NodeName, int]: ...


class ConsensusEngine(Protocol):
    """What ``ConsensusDriver`` promises, as far as a node uses it; see there for orders, durability and errors."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def wait(self) -> None: ...

    @property
    def ticks(self) -> int:
        """How often consensus has woken: what tells that it is not stuck."""

    def set_secret(self, peer: NodeName, secret: bytes | None) -> None: ...

    async def propose(self, data: bytes) -> tuple[Index, Term] | None: ...

    async def resign(self) -> bool: ...

    async def add(self, node: NodeName, member: Member) -> None: ...

    async def remove(self, node: NodeName) -> None: ...

    def snapshot(self) -> bytes | None:
        """Return the newest snapshot, for a follower that asks for it; None if there is none."""

    def install(self, sender: NodeName, content: bytes) -> None:
        """Take in a snapshot that was asked for. Raises RemoteError if it is none."""

    def live_peers(self) -> frozenset[NodeName]: ...

    @property
    def refused(self) -> Mapping[tuple[NodeName | None, Refusal], int]: ...

    def status(self) -> Standing: ...
