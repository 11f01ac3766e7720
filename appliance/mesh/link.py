"""The way to one peer: a queue, one task that empties it, and one connection that is kept."""

import asyncio
import contextlib
import logging
import os
import ssl

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

from appliance.mesh.queue import Parcel, SendQueue
from appliance.mesh.rates import REFUSED_S
from appliance.words.ids import NodeName
from appliance.words.settings import Member

MESSAGES_PATH = "/v1/messages"

_log = logging.getLogger(__name__)
_CONNECT_S = 5.0
_ANSWER_S = 30.0
SLOWEST_BYTES_PER_S = 256 * 1024
"""A message may take 30 s plus its size at this rate; a peer that is slower is cut off."""
# Less than the time for which the other side keeps an idle connection, so that it is ours to close.
_KEEP_IDLE_S = 60.0
_WRITE_BYTES = 256 * 1024


def time_allowed_s(size: int) -> float:
    """Return how long a message of this size may take from one node to another."""
    return _ANSWER_S + size / SLOWEST_BYTES_PER_S


class _Body(BytesPayload):
    """A message's bytes, written in pieces: aiohttp would encrypt megabytes in one go, and the loop would stand still.

    Each piece is a view, so that a broadcast to N peers holds one copy of the message.
    """

    def __init__(self, message: Parcel) -> None:
        super().__init__(b"")
        self._parts = message.parts
        self._size = message.size

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 - aiohttp's signature; it is the size that this body says of itself
    ) -> None:
        """Write all of it."""
        for part in self._parts:
            view = memoryview(part)
            for start in range(0, len(view), _WRITE_BYTES):
                await writer.write(view[start : start + _WRITE_BYTES])


class Link:
    """Sends messages to one peer, in order, each once or (after a broken connection) twice, or not at all.

    Whoever opens it closes it. A failure is logged when it begins and when it is over, not for each message.

    Attributes:
        member: where the peer is reached.
        problem: why the peer can't be reached; empty while it can, or while nobody tried.
        failed: messages that could not be delivered so far.
    """

    def __init__(self, peer: NodeName, member: Member, tls: ssl.SSLContext, queue_bytes: int) -> None:
        self.member = member
        self.problem = ""
        self.failed = 0
        self._peer = peer
        self._address = f"{member.host}:{member.mesh_port}"
        host = f"[{member.host}]" if ":" in member.host else member.host
        self._url = f"https://{host}:{member.mesh_port}{MESSAGES_PATH}"
        self._tls = tls
        self._queue = SendQueue(queue_bytes)
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def dropped(self) -> int:
        """Messages that gave way to newer ones because the peer was too slow."""
        return self._queue.dropped

    def put(self, message: Parcel) -> None:
        """Queue a message."""
        self._queue.put(message)

    def set_tls(self, tls: ssl.SSLContext) -> None:
        """Send the next message on a new connection, with these settings."""
        self._tls = tls

    def open(self) -> None:
        """Begin to send; on the event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1, keepalive_timeout=_KEEP_IDLE_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        self._task = asyncio.create_task(self._send_all(self._session), name=f"mesh-link-{self._peer}")

    async def close(self) -> None:
        """Send no more, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._session is not None:
            await self._session.close()

    async def drained(self) -> None:
        """Wait until all that was queued is sent or given up; at once for a peer that can't be reached."""
        if not self.problem:
            await self._queue.drained()

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        while True:
            # No variable here holds the message: it would until there is another one, and may be as large as a model.
            await self._send(session, await self._queue.get())

    async def _send(self, session: aiohttp.ClientSession, message: Parcel) -> None:
        problem = await self._deliver(session, message)
        self.failed += bool(problem)
        if bool(problem) != bool(self.problem):
            self._tell(problem)
        self.problem = problem
        if problem and message.undelivered is not None:
            message.undelivered()

    async def _deliver(self, session: aiohttp.ClientSession, message: Parcel) -> str:
        """Send one message; return why it could not be, or an empty string."""
        try:
            try:
                return await self._post(session, message)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                # An idle connection may have been broken since it was last used: once more, on a fresh one. A failed
                # connection attempt (a ClientConnectorError) says that there is nobody, and is not repeated.
                if isinstance(error, aiohttp.ClientConnectorError):
                    raise
                return await self._post(session, message)
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", error.certificate_error)
            return f"its certificate is not that of {self._peer}, issued by this cluster's authority ({reason})"
        except TimeoutError:
            return "it did not answer in time"
        except (aiohttp.ClientError, OSError) as error:
            return _describe(error)

    async def _post(self, session: aiohttp.ClientSession, message: Parcel) -> str:
        limits = aiohttp.ClientTimeout(total=time_allowed_s(message.size), sock_connect=_CONNECT_S)
        async with session.post(
            self._url,
            data=_Body(message),
            ssl=self._tls,
            server_hostname=self._peer,
            timeout=limits,
            allow_redirects=False,
        ) as answer:
            # A refusal of one message (400, 413) is a reachable peer's answer; the peer logs what was wrong with it.
            status = answer.status
        if status == 403:
            return "it does not take this node for a member of the cluster"
        if status == 507:
            return "it has no space left for a message of this size"
        if status == 429:
            await asyncio.sleep(REFUSED_S)
            return f"it had too many messages from this node, and takes none for {REFUSED_S:g} s"
        return ""

    def _tell(self, problem: str) -> None:
        about = {"peer": self._peer, "is_news": True}
        if problem:
            _log.warning("mesh: %s (%s) can't be reached: %s", self._peer, self._address, problem, extra=about)
        else:
            _log.info("mesh: %s (%s) is reached again", self._peer, self._address, extra=about)


def _describe(error: Exception) -> str:
    """Say in words what the system reports.

    A peer that refuses our certificate says so only after the handshake (TLS 1.3), and its alert is mostly lost in the
    connection's end: so whoever reads of a broken connection is told what it may mean.
    """
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        number, text = error.os_error.errno or 0, error.os_error.strerror or str(error.os_error)
        # asyncio puts its own words in place of the system's; a name that can't be resolved has a negative number.
        return os.strerror(number) if number > 0 else text
    text = str(error) or type(error).__name__
    return f"the connection broke ({text}); it may refuse this node's certificate: see p2pfl-node pki show"
