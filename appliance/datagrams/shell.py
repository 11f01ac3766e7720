"""UDP for consensus: sends and receives sealed datagrams, and says once a minute why others were refused."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from appliance.datagrams.sealing import Refusal, RefusedError, Sealer
from appliance.words.clock import Clock
from appliance.words.errors import OperatorError
from appliance.words.ids import Monotonic, NodeName
from appliance.words.settings import Cluster, Member

OnMessage = Callable[[NodeName, bytes], None]

RESOLVE_EVERY = 5.0
"""Seconds between two look-ups of the peers' hosts, while something fails."""

LOG_EVERY = 60.0
"""Seconds between two log lines about the same peer and reason."""

_About = tuple[NodeName | None, Refusal | None]
"""What a log line is about: a peer (None: not a member) and why it is refused (None: its host is unknown)."""

_log = logging.getLogger(__name__)


class Datagrams(asyncio.DatagramProtocol):
    """The consensus port of one node; an async context manager.

    Args:
        boot: from ``next_boot``; larger at each start.
        on_message: called on the event loop with a peer and what it sent, authentic and new.

    Attributes:
        refused: how many datagrams were refused, by peer (None: not a member) and reason.

    Raises OperatorError on entry if the port can't be used.
    """

    def __init__(
        self, *, cluster: Cluster, me: NodeName, secret: bytes, boot: int, on_message: OnMessage, clock: Clock
    ) -> None:
        peers = sorted(set(cluster.members) - {me})
        self.refused: Counter[tuple[NodeName | None, Refusal]] = Counter()
        self._members = dict(cluster.members)
        self._me = me
        self._sealer = Sealer(cluster=cluster.name, me=me, peers=peers, secret=secret, boot=boot)
        self._on_message = on_message
        self._clock = clock
        self._addresses: dict[NodeName, tuple[Any, ...] | None] = dict.fromkeys(peers)
        self._logged: dict[_About, Monotonic] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self._family = socket.AF_UNSPEC
        self._paused = False
        self._failing = asyncio.Event()
        self._resolver: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Datagrams":
        loop = asyncio.get_running_loop()
        mine = self._members[self._me]
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: self, local_addr=(mine.host, mine.consensus_port)
            )
        except OSError as error:
            raise OperatorError(
                f"can't use UDP port {mine.consensus_port} on {mine.host} for consensus ({error.strerror}): "
                f"set cluster.members.{self._me}.consensus_port (and host) to a free one, on every node"
            ) from error
        self._transport = transport
        self._family = transport.get_extra_info("socket").family
        await self._resolve()
        self._resolver = asyncio.create_task(self._resolve_again(), name="consensus hosts")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._resolver is not None:
            self._resolver.cancel()
            await asyncio.gather(self._resolver, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def set_members(self, members: Mapping[NodeName, Member]) -> None:
        """Talk to these from now on, and to nobody else."""
        peers = members.keys() - {self._me}
        if any(peer not in self._addresses for peer in peers):
            self._failing.set()
        self._members = dict(members)
        self._addresses = {peer: self._addresses.get(peer) for peer in sorted(peers)}
        self._sealer.set_peers(peers)

    def send(self, peer: NodeName, content: bytes) -> None:
        """Send to a peer; like any datagram it may be lost, and is while the peer's host is unknown."""
        address = self._addresses.get(peer)
        if address is None:
            self._failing.set()
        elif self._transport is not None and not self._paused:
            self._transport.sendto(self._sealer.seal(peer, content), address)

    # --- asyncio.DatagramProtocol -------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Open a datagram, and hand it on."""
        try:
            sender, content = self._sealer.open(data)
        except RefusedError as refused:
            self.complain(refused.sender, refused.refusal, str(addr[0]))
            return
        self._on_message(sender, content)

    def error_received(self, exc: Exception) -> None:  # noqa: ARG002 - asyncio passes it by name
        """A datagram did not get there (ICMP, or no route). Its peer is down or has moved: look the hosts up again."""
        self._failing.set()

    def pause_writing(self) -> None:
        """The socket takes no more. Until it does, datagrams are dropped: late ones are of no use to consensus."""
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def complain(self, peer: NodeName | None, refusal: Refusal, host: str | None = None) -> None:
        """Count something refused, and log it at most once a minute for each peer and reason."""
        self.refused[peer, refusal] += 1
        if self._may_log((peer, refusal)):
            member = None if peer is None else self._members.get(peer)
            where = host or ("unknown" if member is None else member.host)
            source = f"{peer} ({where})" if peer is not None else where
            _log.warning("consensus datagrams from %s %s", source, refusal.value)

    # --- hosts --------------------------------------------------------------------------------------------------------

    async def _resolve_again(self) -> None:
        while True:
            await self._failing.wait()
            await asyncio.sleep(RESOLVE_EVERY)
            self._failing.clear()
            await self._resolve()

    async def _resolve(self) -> None:
        """Look all peers up; one that can't be found keeps its last address."""
        await asyncio.gather(*(self._resolve_one(peer) for peer in self._addresses))

    async def _resolve_one(self, peer: NodeName) -> None:
        member = self._members.get(peer)
        if member is None:
            return
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                member.host, member.consensus_port, family=self._family, type=socket.SOCK_DGRAM
            )
        except OSError as error:
            self._failing.set()
            if self._may_log((peer, None)):
                _log.warning("the host %s of %s can't be found (%s)", member.host, peer, error.strerror)
            return
        if peer in self._addresses:
            self._addresses[peer] = found[0][4]

    def _may_log(self, about: _About) -> bool:
        now, last = self._clock(), self._logged.get(about)
        if last is not None and now - last < LOG_EVERY:
            return False
        self._logged[about] = now
        return True
