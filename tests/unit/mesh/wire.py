"""Connections to node0 in an attacker's hands, for tests of what callers can cost."""

import asyncio
import contextlib
import ssl

import pytest

from tests.unit.mesh.town import BOUND_S, Town

ELSEWHERE = "127.0.0.2"
"""Where attackers call from, so that what is bounded for an address does not meet the members'."""


def port(town: Town) -> int:
    """Return the port on which node0 listens."""
    return town.members["node0"].mesh_port


async def connect(port: int, tls: ssl.SSLContext | None = None, source: str = ELSEWHERE) -> "Wire":
    """Call node0, over TLS or not."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname="node0" if tls else None, local_addr=(source, 0)
    )
    return Wire(reader, writer)


class Wire:
    """One connection to node0 in an attacker's hands."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> bytes:
        """Return the next answer's first line; empty at the end of the connection."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with asyncio.timeout(BOUND_S):
                head = await self.reader.readuntil(b"\r\n\r\n")
                return head.partition(b"\r\n")[0]
        return b""

    async def ended(self) -> None:
        """Wait until the other side ends it."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(BOUND_S):
                while await self.reader.read(65536):
                    pass

    @property
    def is_open(self) -> bool:
        return not (self.reader.at_eof() or self.reader.exception() or self.writer.is_closing())

    def close(self) -> None:
        self.writer.transport.abort()


def request(body: bytes, length: int | None = None, path: str = "/v1/messages") -> bytes:
    """Return a request with this body, whatever length it is said to have."""
    stated = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {stated}\r\n\r\n".encode() + body


async def dribble(wire: Wire, content: bytes, every_s: float = 0.05) -> None:
    """Send a byte now and then until the other side ends it."""
    for byte in content:
        if not wire.is_open:
            return
        wire.writer.write(bytes([byte]))
        await asyncio.sleep(every_s)


def said(caplog: pytest.LogCaptureFixture, sentence: str) -> int:
    """Return how many lines of the log have this sentence."""
    return sum(sentence in record.getMessage() for record in caplog.records)
