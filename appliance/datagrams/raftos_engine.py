"""Upstream raftos 0.2.6, unchanged, behind the driver's interface: unsafe (docs/consensus.md), and never the default.

Its state is global to the process, so a process runs one.
"""

import asyncio
import base64
import logging
import re
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from appliance.consensus.membership import Membership
from appliance.consensus.messages import Entry, Index
from appliance.consensus.ready import Role
from appliance.datagrams.application import Application
from appliance.datagrams.liveness import Liveness
from appliance.datagrams.places import membership_of
from appliance.datagrams.raftos_shim import JsonSerializer, TolerantCryptor, load, read_secret
from appliance.datagrams.sealing import Refusal
from appliance.words.clock import Clock
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import NodeName, Term
from appliance.words.settings import Cluster, Consensus, Member

_log = logging.getLogger(__name__)


class Standing(NamedTuple):
    """The term, the members, and how often each has led as far as committed entries tell."""

    term: Term
    membership: Membership
    turns: dict[NodeName, int]


class RaftosEngine:
    """Consensus of one node by upstream raftos; used as ``ConsensusDriver`` is, and calls back as it does.

    Upstream has no first entry of a term, without which a leader may not act: this class proposes it on each election.

    Raises OperatorError if raftos is not installed, and on entry.
    """

    def __init__(
        self,
        *,
        me: NodeName,
        cluster: Cluster,
        settings: Consensus,
        folder: Path,
        clock: Clock,
        application: Application,
    ) -> None:
        self._raftos = load()
        for name, member in cluster.members.items():
            if not re.fullmatch(r"[0-9]+(\.[0-9]+){3}", member.host):
                raise OperatorError(f"cluster.members.{name}.host: raftos needs an IPv4 address, not {member.host}")
        self._raftos.configure(
            {
                "log_path": str(folder),
                "serializer": JsonSerializer,
                "heartbeat_interval": settings.heartbeat_interval_s,
                "step_down_missed_heartbeats": settings.election_timeout_s / settings.heartbeat_interval_s,
                "election_interval_spread": 2,
                "secret_key": read_secret(settings),
                "salt": cluster.name.encode(),
                "cryptor": self._raftos.cryptors.Cryptor,
                "on_leader": self._begin_term,
            }
        )
        self._raftos.config.cryptor = TolerantCryptor(self._raftos.config.cryptor)
        self._me = me
        self._cluster = cluster
        self._ids = {name: f"{member.host}:{member.consensus_port}" for name, member in cluster.members.items()}
        self._names = {id_: name for name, id_ in self._ids.items()}
        self._heartbeat_s = settings.heartbeat_interval_s
        self._clock = clock
        self._application = application
        self._liveness = Liveness(set(cluster.members) - {me}, clock())
        self._turns: Counter[NodeName] = Counter()
        self._failure: OSError | None = None
        self._started = False
        self.ticks = 0
        self._task: asyncio.Task[None]
        self._told: tuple[Role, Term, NodeName | None]
        self.refused: Counter[tuple[NodeName | None, Refusal]] = Counter()

    async def __aenter__(self) -> Self:
        _log.warning(
            "consensus.engine is raftos 0.2.6, which is unsafe: it can elect two leaders in a term and lose committed "
            "models; see docs/consensus.md"
        )
        loop, me = asyncio.get_running_loop(), self._cluster.members[self._me]
        self._node = node = self._raftos.server.Node((me.host, me.consensus_port), loop)
        for name, peer in self._cluster.members.items():
            if name != self._me:
                node.update_cluster((peer.host, peer.consensus_port))
        self._handle = node.state.request_handler
        node.state.request_handler = self._received
        node.state.state_machine.apply = self._apply
        try:
            await node.start()
        except OSError as error:
            raise OperatorError(f"consensus can't use UDP {me.host}:{me.consensus_port} ({error.strerror})") from error
        self._told = (Role.FOLLOWER, node.state.storage.term, None)
        self._started = True
        self._task = asyncio.create_task(self._run(), name="raftos")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        self._node.stop()

    def set_secret(self, peer: NodeName, secret: bytes | None) -> None:
        """Upstream has one secret for all, which it is given at the start."""

    async def wait(self) -> None:
        """Return never; raises what ended consensus, such as a StateError of ``on_committed``."""
        await asyncio.shield(self._task)

    async def propose(self, data: bytes) -> tuple[Index, Term] | None:
        """Propose an entry: its index and term, in a file but not durable; None if this node does not lead."""
        return self._write("data", data) if self._role is Role.LEADER else None

    async def resign(self) -> bool:
        """Become a follower; who is next is chance. False if this node does not lead, or is the only one."""
        if self._role is not Role.LEADER or len(self._ids) == 1:
            return False
        self._node.state.to_follower()
        self._observe()
        return True

    async def add(self, node: NodeName, member: Member) -> None:  # noqa: ARG002 - part of the interface
        """Refuse."""
        raise OperatorError(f"{node} can't be added: the engine raftos knows no other members than it began with")

    async def remove(self, node: NodeName) -> None:
        """Refuse."""
        raise OperatorError(f"{node} can't be removed: the engine raftos knows no other members than it began with")

    def snapshot(self) -> None:
        """Return None: upstream's log only grows."""

    def install(self, sender: NodeName, content: bytes) -> None:  # noqa: ARG002 - part of the interface
        """Refuse: upstream never asks for a snapshot."""
        raise RemoteError(f"{sender} sends a snapshot that nobody asked for")

    def live_peers(self) -> frozenset[NodeName]:
        """Return the peers from which anything came lately."""
        return self._liveness.live(self._clock())

    def status(self) -> Standing:
        """Return how consensus stands on this node."""
        return Standing(self._node.state.storage.term, membership_of(self._cluster), dict(self._turns))

    # --- what upstream calls, and does not --------------------------------------------------------------------------

    @property
    def _role(self) -> Role:
        return Role(type(self._node.state.state).__name__.lower())

    def _write(self, kind: str, data: bytes) -> tuple[Index, Term]:
        """As its ``execute_command`` does, without the future that nobody resolves when leadership is lost."""
        leader = self._node.state.state
        term: Term = leader.log.write(leader.storage.term, {kind: base64.b64encode(data).decode()})["term"]
        asyncio.ensure_future(leader.append_entries())  # noqa: RUF006 - as upstream does
        return leader.log.last_log_index, term

    def _begin_term(self) -> None:
        self._observe()
        self._write("no-op", self._me.encode())

    def _received(self, data: dict[str, Any]) -> None:
        sender = self._names.get("{}:{}".format(*data["sender"]))
        if not self._started:
            return
        if sender is None or "type" not in data:
            self.refused[sender, Refusal.UNKNOWN_SENDER if sender is None else Refusal.WRONG_KEY] += 1
            return
        self._liveness.heard(sender, self._clock())
        if data["type"] != "ping":
            try:
                self._handle(data)
                self._observe()
            except OSError as error:
                self._failure = self._failure or error

    def _apply(self, command: dict[str, str]) -> None:
        """Called by upstream for each entry it takes for committed, before it counts it as applied."""
        self._observe()
        log = self._node.state.log
        index = log.last_applied + 1
        kind, text = next(iter(command.items()))
        entry = Entry(index, log[index]["term"], "no-op" if kind == "no-op" else "data", base64.b64decode(text))
        if kind == "no-op":
            self._turns[entry.data.decode()] += 1
        self._application.on_committed((entry,))

    def _observe(self) -> None:
        """Tell of a change; upstream tells of few, so this is asked after each message and each heartbeat."""
        seen = (self._role, self._node.state.storage.term, self._names.get(self._raftos.get_leader()))
        if seen != self._told:
            self._told = seen
            self._application.on_role(*seen)

    async def _run(self) -> None:
        while self._failure is None:
            self.ticks += 1
            self._observe()
            now = self._clock()
            for peer in self._liveness.to_ping(now):
                await self._node.send({"type": "ping"}, self._ids[peer])
                self._liveness.told(peer, now)
            await asyncio.sleep(self._heartbeat_s)
        raise self._failure
