"""A cluster of drivers on loopback, and waiting for a condition with a bound."""

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from appliance.consensus.messages import Entry
from appliance.consensus.ready import Role
from appliance.datagrams.driver import COMPACT_AFTER, ConsensusDriver
from appliance.words.clock import system_clock
from appliance.words.ids import NodeName, Term
from appliance.words.settings import Cluster, Consensus, Member
from tests.fixed_keys import SECRET, FixedKeys


def free_cluster(size: int) -> Cluster:
    """Return a cluster whose UDP ports were free a moment ago."""
    with contextlib.ExitStack() as stack:
        members = {}
        for name in [f"node{i}" for i in range(size)]:
            probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            probe.bind(("127.0.0.1", 0))
            members[name] = Member(host="127.0.0.1", consensus_port=probe.getsockname()[1])
        return Cluster(name="test", members=members)


async def until(condition: Callable[[], bool], bound: float = 20.0) -> None:
    """Return when a condition holds; it is looked at each time the loop was given away."""
    async with asyncio.timeout(bound):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


class Node:
    """One driver, what it told, and what came of it."""

    def __init__(
        self,
        cluster: Cluster,
        name: NodeName,
        folder: Path,
        secret: bytes = SECRET,
        others: "dict[NodeName, Node] | None" = None,
        compact_after: int = COMPACT_AFTER,
        *,
        joins: bool = False,
    ) -> None:
        self.name = name
        self.data: list[bytes] = []
        self.roles: list[tuple[Role, Term, NodeName | None]] = []
        self.members: frozenset[NodeName] = frozenset()
        self.restored = 0
        self._others = {} if others is None else others
        self.driver = ConsensusDriver(
            me=name,
            cluster=cluster,
            settings=Consensus(),
            folder=folder / name,
            random=random.Random(name),
            clock=system_clock,
            application=self,
            compact_after=compact_after,
            joins=joins,
        )
        self._keys = FixedKeys(name, self.driver.set_secret, secret)

    def on_role(self, role: Role, term: Term, leader: NodeName | None) -> None:
        self.roles.append((role, term, leader))

    def on_committed(self, entries: tuple[Entry, ...]) -> None:
        self.data += [entry.data for entry in entries if entry.kind == "data"]

    def on_members(self, members: Mapping[NodeName, Member]) -> None:
        self.members = frozenset(members)
        self._keys.on_members(members)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self.data)

    def restore(self, state: bytes) -> None:
        self.restored += 1
        self.data = msgspec.msgpack.decode(state, type=list[bytes])

    def fetch_snapshot(self, leader: NodeName) -> None:
        """The mesh of these tests: a call; who is stopped meanwhile does not answer."""
        if leader in self._others:
            content = self._others[leader].driver.snapshot()
            assert content is not None
            self.driver.install(leader, content)

    @property
    def settled(self) -> bool:
        return self.driver.status().settled


class Loopback:
    """Nodes that can be started and stopped one by one; an async context manager that stops what is left."""

    def __init__(self, size: int, folder: Path, compact_after: int = COMPACT_AFTER) -> None:
        self.cluster = free_cluster(size)
        self.folder = folder
        self.compact_after = compact_after
        self.nodes: dict[NodeName, Node] = {}

    async def __aenter__(self) -> "Loopback":
        for name in self.cluster.members:
            await self.start(name)
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self.nodes):
            await self.stop(name)

    async def start(self, name: NodeName, secret: bytes = SECRET) -> Node:
        node = Node(self.cluster, name, self.folder, secret, self.nodes, self.compact_after)
        await node.driver.__aenter__()
        self.nodes[name] = node
        return node

    async def join(self, name: NodeName, member: Member) -> Node:
        """Start a node that is none of the cluster yet; it knows the others, and they don't know it."""
        cluster = Cluster(name=self.cluster.name, members={**self.cluster.members, name: member})
        node = Node(cluster, name, self.folder, SECRET, self.nodes, self.compact_after, joins=True)
        await node.driver.__aenter__()
        self.nodes[name] = node
        return node

    async def stop(self, name: NodeName) -> None:
        await self.nodes.pop(name).driver.__aexit__(None, None, None)

    async def leader(self) -> NodeName:
        """Wait for a settled leader."""
        await until(lambda: any(node.settled for node in self.nodes.values()))
        return next(name for name, node in self.nodes.items() if node.settled)
