"""The mesh as the node sees it: send to one, broadcast to all, and be called for what arrives."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Self

from appliance.mesh.body import Spool
from appliance.mesh.link import Link
from appliance.mesh.queue import Parcel
from appliance.mesh.server import OnMessage, Server, Wants
from appliance.pki.identity import NodeIdentity
from appliance.words.clock import Clock, system_clock
from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName
from appliance.words.messages import MeshMessage
from appliance.words.parts import encode_parts
from appliance.words.settings import Member

_log = logging.getLogger(__name__)
_DRAIN_S = 1.0


class Mesh:
    """This node's place in the mesh; an async context manager that listens and keeps a link to each peer.

    Delivery is best effort: per peer in order; a message may be lost (the peer is down, or too slow for its queue) and
    may come twice (the connection broke after it was taken). Whoever needs an answer asks again.

    Args:
        node: this node's name.
        members: all members, this node included.
        identity: proves this node's name, and checks the peers'.
        max_message_bytes: the longest message that is taken; also the bound of each peer's queue.
        on_message: called on the event loop for each message, with the name that the sender's certificate proves. It
            must not block. It may raise RemoteError to refuse a message.
        wants: asked, with the sender's name, by a message's first bytes whether it is of any use; None takes all.
        spool: makes files for long messages that come; None keeps them in memory too.
    """

    def __init__(
        self,
        node: NodeName,
        members: Mapping[NodeName, Member],
        identity: NodeIdentity,
        *,
        max_message_bytes: int,
        on_message: OnMessage,
        clock: Clock = system_clock,
        wants: Wants | None = None,
        spool: Spool | None = None,
    ) -> None:
        self._node = node
        self._me = members[node]
        self._identity = identity
        self._on_message = on_message
        self._server = Server(members, max_message_bytes, on_message, clock, wants=wants, spool=spool)
        self._tls = identity.client_context()
        self._max_message_bytes = max_message_bytes
        self._links: dict[NodeName, Link] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._begins_with = members

    async def __aenter__(self) -> Self:
        """Listen and start the links. Raises OperatorError if it can't listen; the text names port and key."""
        await self._server.start(self._node, self._me.host, self._me.mesh_port, self._identity.server_context())
        self.set_members(self._begins_with)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give what is queued for reachable peers a second, then close; takes about two seconds at most."""
        try:
            async with asyncio.timeout(_DRAIN_S):
                await asyncio.gather(*(link.drained() for link in self._links.values()))
        except TimeoutError:
            _log.info("mesh: closing with messages unsent")
        for link in self._links.values():
            self._close(link)
        await asyncio.gather(*self._closing)
        await self._server.stop()

    def set_members(self, members: Mapping[NodeName, Member]) -> None:
        """Keep a link to each of these from now on, and take messages from them, and from nobody else."""
        self._server.set_members(members)
        for peer, link in list(self._links.items()):
            if link.member != members.get(peer):  # it left, or came back elsewhere
                self._close(self._links.pop(peer))
        for peer in sorted(members.keys() - self._links.keys() - {self._node}):
            link = self._links[peer] = Link(peer, members[peer], self._tls, self._max_message_bytes)
            link.open()

    def set_identity(self, identity: NodeIdentity, revoked: Collection[int]) -> None:
        """Use another certificate, or trust fewer ones, from now on.

        Who called with one of the ``revoked`` is cut off at once. Other connections go on as they were made; this
        node's own are made anew with its next messages.
        """
        self._identity = identity
        self._tls = identity.client_context()
        self._server.set_tls(identity.server_context())
        for link in self._links.values():
            link.set_tls(self._tls)
        self._server.drop(revoked)

    @property
    def serials(self) -> dict[NodeName, int]:
        """The serial numbers of the certificates with which the peers called last."""
        return self._server.serials

    def _close(self, link: Link) -> None:
        task = asyncio.get_running_loop().create_task(link.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def send(self, peer: NodeName, message: MeshMessage, undelivered: Callable[[], None] | None = None) -> None:
        """Queue a message for one peer, or hand it to this node itself if that is whom it is for.

        Args:
            undelivered: called on the event loop when the peer could not be reached, or would not take it; not for a
                message that gave way to newer ones, nor for one whose peer is no member any more.
        """
        if peer == self._node:
            self._hand_to_self(message)
        elif (link := self._links.get(peer)) is not None:  # one that is no member any more gets nothing
            link.put(Parcel(encode_parts(message), undelivered))

    def broadcast(self, message: MeshMessage, *, to: Collection[NodeName] | None = None) -> None:
        """Queue a message for every peer, or for those in ``to``; encoded once, and all queues share its bytes."""
        parcel = Parcel(encode_parts(message))
        for peer, link in self._links.items():
            if to is None or peer in to:
                link.put(parcel)

    @property
    def peers(self) -> Collection[NodeName]:
        """All other members."""
        return self._links.keys()

    @property
    def unreachable(self) -> dict[NodeName, str]:
        """The peers that the last message did not reach, each with the reason in words."""
        return {peer: link.problem for peer, link in self._links.items() if link.problem}

    @property
    def lost(self) -> dict[NodeName, int]:
        """For each peer, how many messages were given up so far: it was down, or too slow for its queue."""
        return {peer: link.failed + link.dropped for peer, link in self._links.items()}

    @property
    def held_back(self) -> dict[NodeName, int]:
        """For each peer that sent more than its share, how many of its messages had to wait or were refused for it."""
        return dict(self._server.held_back)

    def _hand_to_self(self, message: MeshMessage) -> None:
        """Call back later and not now: whoever sends is never called before it has returned."""
        asyncio.get_running_loop().call_soon(self._take_own, message)

    def _take_own(self, message: MeshMessage) -> None:
        try:
            self._on_message(self._node, message)
        except RemoteError as error:
            # As good as a lost message: whoever needs an answer asks again.
            _log.debug("mesh: a message of this node to itself is refused: %s", error.reason)
