"""A bad network between the consensus ports of nodes on loopback: loss, delay, duplication, reordering, cuts.

Each direction between two nodes has a socket of its own. A node is told, for each peer, the proxy's port in the place
of the peer's; who sent a datagram is known from the port at which it arrives. No datagram is ever opened or changed.
"""

import heapq
import itertools
import random
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from appliance.words.ids import NodeName
from appliance.words.settings import Cluster, Member

HOST = "127.0.0.1"
LARGEST = 65536
ENDS_WITHIN_S = 10.0

Direction = tuple[NodeName, NodeName]
"""Sender and receiver."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What happens to datagrams of one direction. The default is a perfect network.

    Attributes:
        loss, duplication: the share of datagrams that are lost, and that come twice.
        delay_s: how late every datagram comes.
        jitter_s: how much later than that it may come, evenly spread; datagrams then overtake one another.
    """

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    duplication: float = 0.0


PERFECT = Quality()


class UdpProxy:
    """The network; a context manager with a thread of its own.

    Args:
        ports: the consensus port of each node.
        seed: of the fate of each direction's first, second and further datagrams.

    Attributes:
        counts: how many datagrams ``arrived``, were ``lost``, ``cut`` or ``doubled``.
    """

    def __init__(self, ports: Mapping[NodeName, int], *, seed: int, quality: Quality = PERFECT) -> None:
        self.counts: Counter[str] = Counter()
        self._ports = dict(ports)
        self._directions = list(itertools.permutations(sorted(ports), 2))
        self._qualities = dict.fromkeys(self._directions, quality)
        self._cut: frozenset[Direction] = frozenset()
        self._chances = {(a, b): random.Random(f"{seed} {a} {b}") for a, b in self._directions}
        self._sockets: dict[Direction, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._late: list[tuple[float, int, Direction, bytes]] = []
        self._numbers = itertools.count()
        self._waker, self._wakes = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="UDP proxy", daemon=True)

    def __enter__(self) -> Self:
        self._selector.register(self._wakes, selectors.EVENT_READ)
        for direction in self._directions:
            here = self._sockets[direction] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            here.bind((HOST, 0))
            here.setblocking(False)
            self._selector.register(here, selectors.EVENT_READ, direction)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waker.close()
        self._thread.join(ENDS_WITHIN_S)
        assert not self._thread.is_alive()
        for one in (self._wakes, *self._sockets.values()):
            one.close()
        self._selector.close()

    def port(self, sender: NodeName, receiver: NodeName) -> int:
        """Return the port to which the sender must send what is for the receiver."""
        port: int = self._sockets[sender, receiver].getsockname()[1]
        return port

    def seen_by(self, node: NodeName, cluster: Cluster) -> Cluster:
        """Return the cluster as this node's configuration must name it: each peer's consensus port is the proxy's."""
        members = {
            name: member
            if name == node
            else Member(host=member.host, mesh_port=member.mesh_port, consensus_port=self.port(node, name))
            for name, member in cluster.members.items()
        }
        return Cluster(name=cluster.name, members=members)

    def set(self, quality: Quality) -> None:
        """Give every direction this quality from now on."""
        self._qualities = dict.fromkeys(self._directions, quality)

    def cut(self, senders: Iterable[NodeName], receivers: Iterable[NodeName]) -> None:
        """Let nothing more through from any of these senders to any of these receivers; other cuts stay."""
        self._cut |= frozenset(itertools.product(senders, receivers))

    def isolate(self, nodes: Iterable[NodeName]) -> None:
        """Cut these nodes off from all others, both ways."""
        inside = set(nodes)
        outside = self._ports.keys() - inside
        self.cut(inside, outside)
        self.cut(outside, inside)

    def heal(self) -> None:
        """End all cuts."""
        self._cut = frozenset()

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            timeout = max(0.0, self._late[0][0] - time.monotonic()) if self._late else None
            for key, _ in self._selector.select(timeout):
                if key.data is None:
                    return
                self._receive(key.data)
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, direction, datagram = heapq.heappop(self._late)
                self._deliver(direction, datagram)

    def _receive(self, direction: Direction) -> None:
        datagram = self._sockets[direction].recv(LARGEST)
        quality, chance = self._qualities[direction], self._chances[direction]
        # Every chance is taken for every datagram, so that a datagram's fate does not hang on the others' qualities.
        lost, doubled = chance.random() < quality.loss, chance.random() < quality.duplication
        delays = [quality.delay_s + quality.jitter_s * chance.random() for _ in range(2)]
        self.counts["arrived"] += 1
        if direction in self._cut:
            self.counts["cut"] += 1
        elif lost:
            self.counts["lost"] += 1
        else:
            self.counts["doubled"] += doubled
            for delay in delays if doubled else delays[:1]:
                self._send_after(delay, direction, datagram)

    def _send_after(self, delay: float, direction: Direction, datagram: bytes) -> None:
        if delay > 0:
            heapq.heappush(self._late, (time.monotonic() + delay, next(self._numbers), direction, datagram))
        else:
            self._deliver(direction, datagram)

    def _deliver(self, direction: Direction, datagram: bytes) -> None:
        """Hand a datagram on, unless the way was cut while it travelled, or the receiver's buffer is full."""
        if direction in self._cut:
            self.counts["cut"] += 1
            return
        try:
            self._sockets[direction].sendto(datagram, (HOST, self._ports[direction[1]]))
        except OSError:
            self.counts["lost"] += 1
