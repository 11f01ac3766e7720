"""An attacker of its own process, with a member's certificate: floods one node in every way it knows until it is ended.

``python -m tests.process.flood ATTACKER_CONFIG VICTIM [ATTACK ...]``: the configuration of the member whose keys it
has, the name of the node that it floods, and the attacks, or all of them. Each second it prints how often each kind of
attack went through.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from appliance.envelopes.format import KEY_ID_BYTES, SALT_BYTES, Header, Kind, format_header
from appliance.node.config import Config, load
from appliance.pki.identity import NodeIdentity
from appliance.words.messages import Opening, Participation, Sealed, Signed, Stored, encode
from appliance.words.settings import Member

OUTSIDER = "127.0.0.66"
INSIDER = "127.0.0.77"
HALF_OPEN = 300
Attack = Callable[[], Awaitable[None]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Attacker:
    """All the attacks; each method is one attack, which is repeated as soon as it is over."""

    def __init__(self, config: Config, victim: str) -> None:
        self.counts: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._config = config
        self._victim_name = victim
        self._victim: Member = config.cluster.members[victim]
        self._identity = NodeIdentity.load(config.identity, config.node)
        self._tls = self._identity.client_context()
        digest = "sha256:" + "0" * 64
        opening = Opening(
            cluster=config.cluster.name,
            leader=config.node,
            term=0,
            round=0,
            base_version=0,
            base=digest,
            key_id=bytes(KEY_ID_BYTES),
            accepted=0,
            expected=3,
            quorum=3,
            deadline_s=60.0,
            token_key=bytes(256),
            deliver=True,
            encoding="float32",
        )
        payload = encode(opening)
        self._statement = encode(Signed(payload, self._identity.certificate_der, self._identity.sign(payload)))
        self._small = [encode(Stored(1, 1, digest)), encode(Participation(1, 1, able=False))]

    async def run(self, *names: str) -> None:
        """Go on until the process is ended."""
        attacks: dict[str, tuple[Attack, int, float]] = {
            # name: the attack, how many at once, pause between one and the next
            "half open": (self._half_open, HALF_OPEN, 0.2),
            "half a handshake": (self._half_handshake, 50, 0.2),
            "garbage in TLS": (self._garbage, 2, 0.05),
            "giant lengths": (self._giant, 2, 0.05),
            "dribbled bodies": (self._dribbled, 2, 0.05),
            "small messages": (self._messages, 3, 0.05),
            "repeated statements": (self._statements, 2, 0.05),
            "envelopes of no use": (self._envelopes, 2, 0.05),
            "datagrams": (self._datagrams, 1, 0.02),
        }
        for name in names or attacks:
            attack, at_once, pause_s = attacks[name]
            for _ in range(at_once):
                self._tasks.append(asyncio.create_task(self._again(name, attack, pause_s)))
        while True:
            await asyncio.sleep(1.0)
            print(dict(self.counts), flush=True)

    async def _again(self, name: str, attack: Attack, pause_s: float) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                await attack()
                self.counts[name] += 1
            await asyncio.sleep(pause_s)

    @contextlib.asynccontextmanager
    async def _connection(self, source: str, tls: ssl.SSLContext | None) -> AsyncIterator[Streams]:
        name = self._victim_name if tls else None
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(
                self._victim.host, self._victim.mesh_port, ssl=tls, server_hostname=name, local_addr=(source, 0)
            )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    # --- from outside ------------------------------------------------------------------------------------------------

    async def _half_open(self) -> None:
        async with self._connection(OUTSIDER, None) as (reader, _):
            await reader.read()

    async def _half_handshake(self) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        channel = self._tls.wrap_bio(incoming, outgoing, server_hostname=self._victim_name)
        with contextlib.suppress(ssl.SSLWantReadError):
            channel.do_handshake()
        hello = outgoing.read()
        async with self._connection(OUTSIDER, None) as (reader, writer):
            writer.write(hello[: len(hello) // 2] if secrets.randbelow(2) else hello)
            await reader.read()

    async def _datagrams(self) -> None:
        tag = secrets.token_bytes(8)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((OUTSIDER, 0))
            for counter in range(20):
                head = struct.pack(">BB8s8s8sI", 2, 2, tag, bytes(8), b"no token", counter)
                for content in (head + secrets.token_bytes(100), secrets.token_bytes(1400)):
                    sender.sendto(content, (self._victim.host, self._victim.consensus_port))

    # --- with a member's certificate ---------------------------------------------------------------------------------

    async def _garbage(self) -> None:
        async with self._connection(INSIDER, self._tls) as (reader, writer):
            writer.write(secrets.token_bytes(100_000))
            await writer.drain()
            await reader.read()

    async def _giant(self) -> None:
        async with self._connection(INSIDER, self._tls) as (reader, writer):
            writer.write(_head(10**12) + b"\x82" * 1000)
            await reader.read()

    async def _dribbled(self) -> None:
        """Of the greatest length allowed: as much memory as one message can hold."""
        async with self._connection(INSIDER, self._tls) as (reader, writer):
            writer.write(_head(self._config.max_message_bytes))
            for byte in encode(Sealed(memoryview(bytes(100)))):
                writer.write(bytes([byte]))
                await asyncio.sleep(0.1)
            await reader.read()

    async def _messages(self) -> None:
        await self._send([self._small[number % 2] for number in range(1000)])

    async def _statements(self) -> None:
        await self._send([self._statement] * 200)

    async def _envelopes(self) -> None:
        header = Header(Kind.TO_LEADER, 1, 1, secrets.token_bytes(KEY_ID_BYTES), bytes(SALT_BYTES), bytes(256))
        await self._send([encode(Sealed(memoryview(format_header(header) + bytes(1_600_000))))] * 20)

    async def _send(self, messages: list[bytes]) -> None:
        """All of them without waiting for an answer."""
        async with self._connection(INSIDER, self._tls) as (reader, writer):
            answers = asyncio.create_task(reader.read())
            for message in messages:
                writer.write(_head(len(message)) + message)
                await writer.drain()
            await answers


def _head(length: int) -> bytes:
    return b"POST /v1/messages HTTP/1.1\r\nHost: node\r\nContent-Length: %d\r\n\r\n" % length


if __name__ == "__main__":
    logging.disable()  # of asyncio's, about connections that the victim has cut
    asyncio.run(Attacker(load(Path(sys.argv[1])), sys.argv[2]).run(*sys.argv[3:]))
