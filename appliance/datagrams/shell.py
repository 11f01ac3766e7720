"""UDP for consensus: sends and receives sealed datagrams, and says once a minute why others were refused."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from appliance.datagrams.pair import Pair
from appliance.datagrams.sealing import Refusal, RefusedError, parse, tag_of
from appliance.words.clock import Clock
from appliance.words.errors import OperatorError
from appliance.words.ids import Monotonic, NodeName
from appliance.words.random import RandomBytes
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
        random: makes this start of the node one that no other was (``association``).
        on_message: called on the event loop with a peer and what it sent, authentic and new.

    Attributes:
        refused: how many datagrams were refused, by peer (None: not a member) and reason.

    Raises OperatorError on entry if the port can't be used.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        me: NodeName,
        on_message: OnMessage,
        clock: Clock,
        random: RandomBytes,
    ) -> None:
        self.refused: Counter[tuple[NodeName | None, Refusal]] = Counter()
        self._members = dict(cluster.members)
        self._me = me
        self._cluster = cluster.name
        self._random = random
        self._on_message = on_message
        self._clock = clock
        self._pairs: dict[NodeName, Pair] = {}
        self._senders: dict[bytes, NodeName] = {}
        self._addresses: dict[NodeName, tuple[Any, ...] | None] = {}
        self._logged: dict[_About, Monotonic] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self._family = socket.AF_UNSPEC
        self._paused = False
        self._failing = asyncio.Event()
        self._closed = asyncio.Event()
        self._resolver: asyncio.Task[None] | None = None
        self._lookups: set[asyncio.Task[None]] = set()
        self.set_members(cluster.members)

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
            tasks = [self._resolver, *self._lookups]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._transport is not None:
            self._transport.close()
            await self._closed.wait()
            self._transport = None

    def set_members(self, members: Mapping[NodeName, Member]) -> None:
        """Talk to these from now on, and to nobody else."""
        peers = sorted(members.keys() - {self._me})
        # New ones, and those that moved.
        fresh = [peer for peer in peers if peer not in self._addresses or self._members.get(peer) != members[peer]]
        self._members = dict(members)
        self._addresses = {peer: None if peer in fresh else self._addresses[peer] for peer in peers}
        if self._transport is not None:
            for peer in fresh:
                lookup = asyncio.get_running_loop().create_task(self._resolve_one(peer))
                self._lookups.add(lookup)
                lookup.add_done_callback(self._lookups.discard)
        self._pairs = {peer: self._pairs.get(peer) or self._pair(peer) for peer in peers}
        self._senders = {tag_of(peer): peer for peer in peers}

    def set_secret(self, peer: NodeName, secret: bytes | None) -> None:
        """Talk to a peer with a secret that was agreed on with it; None: not at all."""
        pair = self._pairs.get(peer)
        if pair is not None:
            pair.set_secret(secret, self._clock())
            self._throw(peer, pair.outbox())

    def _pair(self, peer: NodeName) -> Pair:
        return Pair(cluster=self._cluster, me=self._me, peer=peer, random=self._random)

    def send(self, peer: NodeName, content: bytes) -> None:
        """Send to a peer; like any datagram it may be lost, and is while the two have no key, or have not met."""
        pair = self._pairs.get(peer)
        if pair is not None and self._transport is not None and not self._paused:
            datagram = pair.seal(content, self._clock())
            self._throw(peer, [*pair.outbox(), *([] if datagram is None else [datagram])])

    def _throw(self, peer: NodeName, datagrams: list[bytes]) -> None:
        address = self._addresses[peer]
        if address is None:
            self._failing.set()
        elif self._transport is not None:
            for each in datagrams:
                self._transport.sendto(each, address)

    # --- asyncio.DatagramProtocol -------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Open a datagram, and hand it on."""
        try:
            header, ciphertext = parse(data)
            sender = self._senders.get(header.tag)
            if sender is None:
                raise RefusedError(Refusal.UNKNOWN_SENDER, None)
            pair = self._pairs[sender]
            try:
                content = pair.open(header, ciphertext, self._clock())
            finally:
                self._throw(sender, pair.outbox())
        except RefusedError as refused:
            self.complain(refused.sender, refused.refusal, str(addr[0]))
            return
        if content is not None:
            self._on_message(sender, content)

    def error_received(self, exc: Exception) -> None:  # noqa: ARG002 - asyncio passes it by name
        """A datagram did not get there (ICMP, or no route). Its peer is down or has moved: look the hosts up again."""
        self._failing.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The port is free again."""
        self._closed.set()

    def pause_writing(self) -> None:
        """The socket takes no more. Until it does, datagrams are dropped: late ones are of no use to consensus."""
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def complain(self, peer: NodeName | None, refusal: Refusal, host: str | None = None) -> None:
        """Count something refused, and log it at most once a minute for each peer and reason.

        What was on its way when one side started is no news.
        """
        self.refused[peer, refusal] += 1
        if refusal not in {Refusal.STALE, Refusal.NO_KEY} and self._may_log((peer, refusal)):
            member = None if peer is None else self._members.get(peer)
            where = host or ("unknown" if member is None else member.host)
            source = f"{peer} ({where})" if peer is not None else where
            _log.warning("consensus datagrams from %s %s", source, refusal.value, extra={"peer": peer or "strangers"})

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
                reason = error.strerror
                _log.warning("the host %s of %s can't be found (%s)", member.host, peer, reason, extra={"peer": peer})
            return
        if peer in self._addresses:
            self._addresses[peer] = found[0][4]

    def _may_log(self, about: _About) -> bool:
        now, last = self._clock(), self._logged.get(about)
        if last is not None and now - last < LOG_EVERY:
            return False
        self._logged[about] = now
        return True
