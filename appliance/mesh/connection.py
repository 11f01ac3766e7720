"""One connection from a caller: aiohttp's HTTP, and who the caller is."""

import asyncio
import contextlib
import socket
from typing import Any, Protocol

from aiohttp import web

_KEEP_IDLE_S = 90.0
_READ_BYTES = 256 * 1024
_FIELD_BYTES = 1024
_FIELDS = 32


class Keeper(Protocol):
    """Who answers for the connections."""

    def proven(self, connection: "Connection") -> None:
        """TLS has checked the caller's certificate: ``names`` says whose it is."""

    def lost(self, connection: "Connection") -> None:
        """It has ended, after its handshake."""

    def at_fault(self, connection: "Connection", reason: str) -> None:
        """The caller sent what is no HTTP, or too much of it."""

    def has_bug(self, error: BaseException) -> None:
        """Our own code failed to deal with a request."""


class Connection(web.RequestHandler):
    """Made for each socket that is accepted; the TLS handshake begins after that.

    An idle connection is cut after 90 s, and so is one that comes to no end with the head of a request, however often
    it sends a byte of it.

    Attributes:
        source: the caller's address, without its port.
        names: the DNS names in the caller's certificate; empty before it has shown one.
        serial: its serial number.
        is_lost: it has ended, or was shown out.
    """

    def __init__(self, http: web.Server, channel: socket.socket, source: str, keeper: Keeper) -> None:
        super().__init__(
            http,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # as AppRunner does it
            keepalive_timeout=_KEEP_IDLE_S,
            # What is left of a refused message is read at its sender's rate, by our own handler.
            lingering_time=0.0,
            # An attacker's gzip would otherwise be unpacked before any limit.
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            max_line_size=_FIELD_BYTES,
            max_field_size=_FIELD_BYTES,
            max_headers=_FIELDS,
        )
        self.source = source
        self.names: tuple[str, ...] = ()
        self.serial = 0
        self.is_lost = False
        self._socket = channel
        self._channel: asyncio.Transport | None = None
        self._keeper = keeper

    @property
    def is_made(self) -> bool:
        """Whether the TLS handshake was completed."""
        return self._channel is not None

    def drop(self) -> None:
        """End it at once, in whatever state it is."""
        self.is_lost = True
        if self._channel is not None:
            self._channel.abort()
        else:
            # In its handshake, where asyncio keeps the transport to itself: that ends at the end of the stream.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is over (asyncio.Protocol)."""
        self._channel = transport  # type: ignore[assignment]  # TLS over TCP is a Transport
        if self.is_lost:
            self.drop()
            return
        certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
        self.names = tuple(name for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS")
        self.serial = int(certificate.get("serialNumber", "0"), 16)
        super().connection_made(transport)
        self._keeper.proven(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """It has ended (asyncio.Protocol)."""
        self.is_lost = True
        super().connection_lost(exc)
        self._keeper.lost(self)

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser refuses, in place of aiohttp's page and its traceback in the log for each."""
        if status < web.HTTPInternalServerError.status_code:
            self._keeper.at_fault(self, "sent what is no HTTP request, or one with too long a head")
        else:
            self._keeper.has_bug(exc or RuntimeError(message))
        response = web.Response(status=status)
        response.force_close()
        return response
