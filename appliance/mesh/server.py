"""The listening side: who is calling, how much, and is it a message?"""

import asyncio
import errno
import logging
import ssl
from collections.abc import Callable, Collection
from typing import Any

from aiohttp import web

from appliance.mesh.link import MESSAGES_PATH, time_allowed_s
from appliance.mesh.throttle import Throttle
from appliance.words.clock import Clock
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import NodeName
from appliance.words.messages import MeshMessage, decode_mesh

_log = logging.getLogger(__name__)
_LOG_INTERVAL_S = 60.0
_KEEP_IDLE_S = 90.0
_READ_BYTES = 1024 * 1024
_STOP_S = 1.0
_LINGER_S = 1.0

OnMessage = Callable[[NodeName, MeshMessage], None]


class Server:
    """Takes messages from members, on TLS connections that prove the sender's name.

    Args:
        members: the names that may send.
        max_message_bytes: a longer message is refused by its declared length, before it is read.
        on_message: called on the event loop, in the order in which messages arrive from one peer. It may raise
            RemoteError, which refuses the message.
    """

    def __init__(
        self, members: Collection[NodeName], max_message_bytes: int, on_message: OnMessage, clock: Clock
    ) -> None:
        self._members = frozenset(members)
        self._max_message_bytes = max_message_bytes
        self._on_message = on_message
        self._clock = clock
        self._throttle = Throttle(_LOG_INTERVAL_S)
        application = web.Application()
        application.router.add_post(MESSAGES_PATH, self._take)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=_KEEP_IDLE_S,
            shutdown_timeout=_STOP_S,
            # After a refusal the rest of the body is read for this long, or the caller would see a broken connection
            # in place of the answer.
            lingering_time=_LINGER_S,
            # An attacker's gzip would otherwise be unpacked before any limit.
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
        )

    async def start(self, node: NodeName, host: str, port: int, tls: ssl.SSLContext) -> None:
        """Listen.

        Raises:
            OperatorError: the port is in use, or the address is not this machine's.
        """
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise OperatorError(_listen_problem(error, node, host, port)) from None

    def set_members(self, members: Collection[NodeName]) -> None:
        """Take messages from these from now on, and from nobody else."""
        self._members = frozenset(members)

    async def stop(self) -> None:
        """Stop listening; handlers that still run get a second."""
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        names = _names_of_caller(request)
        peer = next((name for name in names if name in self._members), None)
        if peer is None:
            return self._refuse(", ".join(names) or "a nameless caller", 403, "is no member of this cluster")
        try:
            self._on_message(peer, decode_mesh(await self._body(request)))
        except web.HTTPRequestEntityTooLarge:
            limit = self._max_message_bytes
            return self._refuse(peer, 413, f"sent a message that is longer than {limit} bytes, or of no stated length")
        except TimeoutError:
            return self._refuse(peer, 408, "sent a message too slowly")
        except RemoteError as error:
            return self._refuse(peer, 400, error.reason)
        except ConnectionError:
            # The caller ended in the middle of its message: who is still there sends it again, on a new connection.
            return web.Response(status=400)
        return web.Response(status=204)

    async def _body(self, request: web.Request) -> bytes | bytearray:
        """Read a message into one buffer of its declared length: no growing, no joining."""
        length = request.content_length
        if length is None or length > self._max_message_bytes:
            raise web.HTTPRequestEntityTooLarge(self._max_message_bytes, length or 0)
        body = bytearray(length)
        filled = 0
        async with asyncio.timeout(time_allowed_s(length)):
            while part := await request.content.readany():
                body[filled : filled + len(part)] = part
                filled += len(part)
        return body

    def _refuse(self, peer: str, status: int, reason: str) -> web.Response:
        if self._throttle.allows((peer, reason), self._clock()):
            _log.warning("mesh: %s: %s (said at most once a minute)", peer, reason)
        response = web.Response(status=status)
        response.force_close()
        return response


def _names_of_caller(request: web.Request) -> list[str]:
    """Return the DNS names in the caller's certificate, which TLS has checked against the authority."""
    certificate: dict[str, Any] = request.get_extra_info("peercert") or {}
    return [name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]


def _listen_problem(error: OSError, node: NodeName, host: str, port: int) -> str:
    key = f"cluster.members.{node}"
    if error.errno == errno.EADDRINUSE:
        return f"{key}.mesh_port: port {port} is in use by another process; stop that one, or choose another port"
    if error.errno == errno.EACCES:
        return f"{key}.mesh_port: port {port} needs privileges; choose one above 1023"
    return f"{key}.host: can't listen on {host} ({error.strerror or error}); it must be an address of this machine"
