"""Where connections come in: who has not shown a member's certificate yet is one of few, and not for long."""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable

from appliance.mesh.complaints import STRANGERS, Complaints
from appliance.mesh.connection import Connection
from appliance.mesh.rates import Turnstile
from appliance.mesh.room import Room
from appliance.words.clock import Clock

PROVE_WITHIN_S = 5.0
"""A handshake takes milliseconds; this is for bad networks. Who proves to be no member is heard for as long."""
HANDSHAKES_PER_S = 10.0
"""Of one address, after as many at once as all members might begin from there. One costs a millisecond or two."""

_BACKLOG = 128
_ACCEPTS_AT_ONCE = 16
_ACCEPT_AGAIN_S = 1.0
_SHUTDOWN_S = 2.0
_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Door:
    """Accepts connections and has them prove a certificate of the authority, or end.

    Attributes:
        tls: the settings for each connection that is accepted from now on; may be replaced at any time.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        members: int,
        make: Callable[[socket.socket, str], Connection],
        complaints: Complaints,
        clock: Clock,
    ) -> None:
        self.tls = tls
        self._make = make
        self._complaints = complaints
        self._clock = clock
        self._unproven: Room[Connection] = Room()
        self._turnstile = Turnstile(0.0, 0.0)
        self._deadlines: dict[Connection, asyncio.TimerHandle] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []
        self.expect(members)

    def expect(self, members: int) -> None:
        """Set the bounds for a cluster of this size, whose nodes may all call at once, and from one address."""
        self._unproven.per_group = 16 + 2 * members
        self._unproven.total = 64 + 4 * members
        self._turnstile = Turnstile(HANDSHAKES_PER_S, 32.0 + 4 * members)

    async def open(self, host: str, port: int) -> None:
        """Listen. Raises OSError."""
        self._listeners = await _listen(host, port)
        for listener in self._listeners:
            self._watch(listener)

    async def close(self) -> None:
        """Accept nobody any more, and end who is not proven."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        for connection in self._unproven:
            self.release(connection)
            connection.drop()
        await asyncio.gather(*self._handshakes)

    def release(self, connection: Connection) -> None:
        """Look after a connection no more: it has shown a member's certificate, or ended."""
        self._unproven.leave(connection)
        deadline = self._deadlines.pop(connection, None)
        if deadline is not None:
            deadline.cancel()

    # --- one connection's way in -------------------------------------------------------------------------------------

    def _watch(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Take in a few of those who wait; the loop calls again while there are more."""
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                channel, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in _NO_RESOURCES:
                    continue  # what became of a caller that has gone (accept(2))
                # The listener stays readable: without a pause the loop would do nothing else.
                self._complaints.say("this node", f"can't accept connections now: {error.strerror}")
                loop = asyncio.get_running_loop()
                loop.remove_reader(listener)
                loop.call_later(_ACCEPT_AGAIN_S, self._watch, listener)
                return
            self._take_in(channel, str(address[0]))

    def _take_in(self, channel: socket.socket, address: str) -> None:
        source = _source_of(address)
        if not self._turnstile.admits(source, self._clock()):
            self._complaints.say(STRANGERS, "connect too often from one address", address)
            channel.close()
            return
        channel.setblocking(False)
        connection = self._make(channel, address)
        for oldest in self._unproven.enter(connection, source):
            self._complaints.say(STRANGERS, "too many connections without a member's certificate", oldest.source)
            self.release(oldest)
            oldest.drop()
        self._deadlines[connection] = asyncio.get_running_loop().call_later(PROVE_WITHIN_S, self._too_late, connection)
        task = asyncio.get_running_loop().create_task(self._shake_hands(channel, connection))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _shake_hands(self, channel: socket.socket, connection: Connection) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                channel,
                ssl=self.tls,
                ssl_handshake_timeout=2 * PROVE_WITHIN_S,  # the deadline is ours, and comes first
                # A caller that never says that it has heard of the end is as good as gone.
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        except OSError as error:
            if not connection.is_lost:
                self._complaints.say(STRANGERS, f"the TLS handshake failed ({_reason_of(error)})", connection.source)
        finally:
            if not connection.is_made:
                self.release(connection)

    def _too_late(self, connection: Connection) -> None:
        reason = f"no member's certificate within {PROVE_WITHIN_S:g} s"
        self._complaints.say(STRANGERS, reason, connection.source)
        self.release(connection)
        connection.drop()


def _source_of(address: str) -> object:
    """Return what one caller can't choose at will: its IPv4 address, or the network of 64 bits that it is in."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    return ip if ip.version == 4 else int(ip) >> 64


def _reason_of(error: OSError) -> str:
    """Say why without a word of the caller's."""
    if isinstance(error, ssl.SSLError):
        return error.reason or type(error).__name__
    return error.strerror or type(error).__name__


async def _listen(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets, not blocking, on the addresses of a host's name that this machine has.

    Raises:
        OSError: it has none of them, or the port is taken on one.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    listeners: list[socket.socket] = []
    problem = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            listener = socket.create_server(address, family=family, backlog=_BACKLOG)
        except OSError as error:
            problem = OSError(error.errno, os.strerror(error.errno or 0))
            if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                continue  # such as ::1 for localhost, on a machine without IPv6
            for taken in listeners:
                taken.close()
            raise problem from None
        listener.setblocking(False)
        listeners.append(listener)
    if not listeners:
        raise problem
    return listeners
