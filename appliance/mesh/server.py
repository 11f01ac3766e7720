"""The listening side: who is calling, how much, and is it a message?"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Collection

from aiohttp import web

from appliance.mesh.body import Body, Spool
from appliance.mesh.complaints import STRANGERS, Complaints
from appliance.mesh.connection import Connection
from appliance.mesh.door import Door
from appliance.mesh.head import HEAD_BYTES, Head, read_head
from appliance.mesh.link import MESSAGES_PATH, time_allowed_s
from appliance.mesh.rates import REFUSED_S, Allowance, limits_of
from appliance.mesh.room import Room
from appliance.words.clock import Clock
from appliance.words.errors import OperatorError, RemoteError, StateError
from appliance.words.ids import Monotonic, NodeName
from appliance.words.messages import MeshMessage, decode_mesh

_log = logging.getLogger(__name__)
_CONNECTIONS_PER_MEMBER = 4
"""A member has one, and for a moment two when it starts anew. Whoever has more loses its oldest."""
_STOP_S = 1.0
_LINGER_S = 1.0

OnMessage = Callable[[NodeName, MeshMessage], None]
Wants = Callable[[NodeName, Head], str | None]
"""Asked for each message from its first bytes on: None to take it, else why it is of no use, for the log at level
debug. The rest is then read and thrown away, and the sender is told nothing else than if it had been taken: an early
answer would cost the connection, and would show on the network whom an envelope is for. It may raise RemoteError,
which refuses the message."""


class _Refusal(Exception):  # noqa: N818 - an answer, not an error
    def __init__(self, status: int, reason: str, at_fault: str = "") -> None:
        """``at_fault``: who, if not the caller."""
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.at_fault = at_fault


class Server:
    """Takes messages from members, on TLS connections that prove the sender's name.

    What a caller can cost is bounded: connections that have proven nothing (``Door``), connections and bytes on their
    way for each member, and the rates of each member (``rates``).

    Args:
        members: the names that may send.
        max_message_bytes: a longer message is refused by its declared length, before it is read.
        on_message: called on the event loop, in the order in which messages arrive from one peer. It may raise
            RemoteError, which refuses the message.
        wants: see ``Wants``; None takes all.
        spool: for long messages; None keeps them in memory too.

    Attributes:
        serials: of the certificate with which each member called last.
        held_back: for each member, how many of its messages had to wait, or were refused, for their number or size.
    """

    def __init__(
        self,
        members: Collection[NodeName],
        max_message_bytes: int,
        on_message: OnMessage,
        clock: Clock,
        *,
        wants: Wants | None = None,
        spool: Spool | None = None,
    ) -> None:
        self._members = frozenset(members)
        self._max_message_bytes = max_message_bytes
        self._on_message = on_message
        self._wants = wants
        self._spool = spool
        self._clock = clock
        self._complaints = Complaints(clock)
        self._connections: Room[Connection] = Room(per_group=_CONNECTIONS_PER_MEMBER)
        self._bodies: Room[Connection] = Room(per_group=max_message_bytes)
        self._allowances: dict[str, Allowance] = {}
        self._http: web.Server | None = None
        self._door: Door | None = None
        self.held_back: Counter[NodeName] = Counter()
        self.serials: dict[NodeName, int] = {}

    # --- its life ----------------------------------------------------------------------------------------------------

    async def start(self, node: NodeName, host: str, port: int, tls: ssl.SSLContext) -> None:
        """Listen.

        Raises:
            OperatorError: the port is in use, or the address is not this machine's.
        """
        # Who ends its connection takes its handler with it: else those that wait for their turn would pile up.
        self._http = http = web.Server(self._answer, handler_cancellation=True)

        def make(channel: socket.socket, source: str) -> Connection:
            return Connection(http, channel, source, self)

        self._door = Door(tls, len(self._members), make, self._complaints, self._clock)
        try:
            await self._door.open(host, port)
        except OSError as error:
            raise OperatorError(_listen_problem(error, node, host, port)) from None

    def set_tls(self, tls: ssl.SSLContext) -> None:
        """Use these settings for each new connection."""
        if self._door is not None:
            self._door.tls = tls

    def drop(self, serials: Collection[int]) -> None:
        """End the connections that were made with these certificates."""
        for connection in list(self._connections):
            if connection.serial in serials:
                connection.drop()

    def set_members(self, members: Collection[NodeName]) -> None:
        """Take messages from these from now on, and from nobody else."""
        if len(members) != len(self._members):
            self._allowances.clear()  # the limits are others now
            if self._door is not None:
                self._door.expect(len(members))
        self._members = frozenset(members)

    async def stop(self) -> None:
        """Stop listening; handlers that still run get a second."""
        if self._door is not None:
            await self._door.close()
        if self._http is not None:
            self._http.pre_shutdown()
            await self._http.shutdown(_STOP_S)
        for connection in self._connections:
            connection.drop()

    # --- connections -------------------------------------------------------------------------------------------------

    def proven(self, connection: Connection) -> None:
        """Count a connection as the member's whose certificate it showed; a stranger stays one of the unproven."""
        peer = self._member_of(connection)
        if peer is None or self._door is None:
            return
        self._door.release(connection)
        self.serials[peer] = connection.serial
        for oldest in self._connections.enter(connection, peer):
            self._complaints.say(peer, "has too many connections; the oldest is closed")
            oldest.drop()

    def lost(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.leave(connection)
        if self._door is not None:
            self._door.release(connection)

    def at_fault(self, connection: Connection, reason: str) -> None:
        """Say what a caller did wrong."""
        peer = self._member_of(connection)
        if peer is None:
            self._complaints.say(STRANGERS, reason, connection.source)
        else:
            self._complaints.say(peer, reason)

    def has_bug(self, error: BaseException) -> None:
        """Say that a request met a fault of ours."""
        self._complaints.bug(error)

    def _member_of(self, connection: Connection) -> NodeName | None:
        """Return the member whose certificate this connection showed; None for a stranger."""
        return next((name for name in connection.names if name in self._members), None)

    # --- messages ----------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        connection = request.protocol
        if not isinstance(connection, Connection):
            raise TypeError("the HTTP server serves connections that the door took in, and no others")
        peer = self._member_of(connection)
        try:
            if peer is None:
                raise _Refusal(403, "is no member of this cluster")
            await self._take(request, connection, peer)
        except _Refusal as refusal:
            caller = peer or ", ".join(connection.names) or "a nameless caller"
            self._complaints.say(refusal.at_fault or caller, refusal.reason)
            return await self._refuse(request, peer or STRANGERS, refusal.status)
        except RemoteError as error:
            self._complaints.say(peer or STRANGERS, error.reason)
            return await self._refuse(request, peer or STRANGERS, 400)
        except (ConnectionError, web.RequestPayloadError):
            # The caller ended in the middle of its message: who is still there sends it again, on a new connection.
            return web.Response(status=400)
        return web.Response(status=204)

    async def _take(self, request: web.BaseRequest, connection: Connection, peer: NodeName) -> None:
        length = request.content_length
        await self._wait_for_turn(peer, length or 0)
        if request.path != MESSAGES_PATH or request.method != "POST":
            raise _Refusal(404, "asked for what is not there")
        if length is None or length > self._max_message_bytes:
            limit = self._max_message_bytes
            raise _Refusal(413, f"sent a message that is longer than {limit} bytes, or of no stated length")
        # One connection has one message on its way. Another one of the same member that still waits for the rest of
        # its message was given up by its sender, or is one too many.
        for oldest in self._bodies.enter(connection, peer, length):
            oldest.drop()
        try:
            async with asyncio.timeout(time_allowed_s(length)):
                body = await self._body(request, peer, length)
        except TimeoutError:
            raise _Refusal(408, "sent a message too slowly") from None
        except StateError as error:
            raise _Refusal(507, str(error), "this node") from None
        finally:
            self._bodies.leave(connection)
        if body is not None:
            self._on_message(peer, decode_mesh(body))

    async def _wait_for_turn(self, peer: NodeName, length: int) -> None:
        """Count a message, and read nothing more of this peer until it is within its rate again."""
        now = self._clock()
        allowance = self._allowance(peer, now)
        wait_s = 0.0
        if not allowance.refused_s(now):
            wait_s = allowance.spend(min(length, self._max_message_bytes), now)
        if allowance.refused_s(now):
            self.held_back[peer] += 1
            raise _Refusal(429, f"goes on sending more than its share: it is refused for {REFUSED_S:g} s")
        if wait_s > 0:
            self.held_back[peer] += 1
            self._complaints.say(peer, "sends more than its share: it has to wait")
            await asyncio.sleep(wait_s)

    async def _body(self, request: web.BaseRequest, peer: NodeName, length: int) -> memoryview | None:
        """Read a message of a declared length; None if it is of no use, by its first bytes. Raises StateError."""
        start = b""
        while len(start) < min(HEAD_BYTES, length) and (part := await request.content.readany()):
            start += part
        head = read_head(start, length)
        if self._wants is not None and (reason := self._wants(peer, head)) is not None:
            _log.debug("mesh: a %s from %s is of no use: %s", head.type, peer, reason)
            while await request.content.readany():
                pass
            return None
        body = Body(length, self._spool)
        await body.write(start)
        while part := await request.content.readany():
            await body.write(part)
        return body.content()

    async def _refuse(self, request: web.BaseRequest, peer: str, status: int) -> web.Response:
        """Answer a refused message; for a second, what its sender still sends is read at its rate, and forgotten.

        A connection that is closed with bytes unread breaks, and the sender would not see the answer. A member that
        sent a whole message, and a bad one, keeps its connection: another would cost both sides more.
        """
        response = web.Response(status=status)
        if status == web.HTTPTooManyRequests.status_code:
            response.headers["Retry-After"] = f"{REFUSED_S:.0f}"
        else:
            with contextlib.suppress(TimeoutError, ConnectionError, web.RequestPayloadError):
                await self._linger(request, peer)
        if status != web.HTTPBadRequest.status_code or not request.content.at_eof():
            response.force_close()
        return response

    async def _linger(self, request: web.BaseRequest, peer: str) -> None:
        async with asyncio.timeout(_LINGER_S):
            while part := await request.content.readany():
                now = self._clock()
                await asyncio.sleep(self._allowance(peer, now).spend(len(part), now, messages=0))

    def _allowance(self, peer: str, now: Monotonic) -> Allowance:
        allowance = self._allowances.get(peer)
        if allowance is None:
            limits = limits_of(len(self._members), self._max_message_bytes)
            allowance = self._allowances[peer] = Allowance(limits, now)
        return allowance


def _listen_problem(error: OSError, node: NodeName, host: str, port: int) -> str:
    key = f"cluster.members.{node}"
    if error.errno == errno.EADDRINUSE:
        return f"{key}.mesh_port: port {port} is in use by another process; stop that one, or choose another port"
    if error.errno == errno.EACCES:
        return f"{key}.mesh_port: port {port} needs privileges; choose one above 1023"
    return f"{key}.host: can't listen on {host} ({error.strerror or error}); it must be an address of this machine"
