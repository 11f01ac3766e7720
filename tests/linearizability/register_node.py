"""One node of the replicated register, a process of its own.

    python -m tests.linearizability.register_node SETTINGS

SETTINGS is JSON (``Settings``). Clients speak JSON lines over TCP on loopback: a ``Question`` each, and an ``Answer``.
"""

import asyncio
import base64
import contextlib
import logging
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from appliance.consensus.messages import Entry, Index, Request
from appliance.consensus.ready import Role
from appliance.datagrams.driver import ConsensusDriver
from appliance.words.clock import system_clock
from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName, Term
from appliance.words.settings import Cluster, Consensus, Member
from tests.fixed_keys import FixedKeys
from tests.linearizability.history import Value
from tests.linearizability.register import AnyCommand, State

HOST = "127.0.0.1"


class Settings(Struct, frozen=True):
    """What a node needs.

    Attributes:
        ports: the TCP port of each node.
        compact_after: of the driver; small, so that short runs have snapshots too.
    """

    me: NodeName
    cluster: Cluster
    consensus: Consensus
    folder: str
    ports: dict[NodeName, int]
    compact_after: int


class Question(Struct, frozen=True):
    """What a client asks.

    Attributes:
        do: ``read`` is linearizable; ``peek`` tells what this node holds, however old; ``command`` is done once.
    """

    do: Literal["read", "peek", "command", "status", "snapshot"]
    key: str = ""
    command: AnyCommand | None = None
    request: Request | None = None


class Answer(Struct, frozen=True):
    """What a node answers.

    Attributes:
        done: false if the node can't say; then ``leader`` may know.
        value: what was read, or what a command found.
        leader, term, settled, first_index: of the driver's status.
    """

    done: bool
    value: Value = None
    leader: NodeName | None = None
    term: Term = 0
    settled: bool = False
    first_index: Index = 0
    snapshot: str = ""


class RegisterNode:
    """The application of consensus, and its server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._state = State()
        self._fetches: set[asyncio.Task[None]] = set()
        self.driver = ConsensusDriver(
            me=settings.me,
            cluster=settings.cluster,
            settings=settings.consensus,
            folder=Path(settings.folder),
            random=random.Random(),
            clock=system_clock,
            application=self,
            compact_after=settings.compact_after,
        )
        self._keys = FixedKeys(settings.me, self.driver.set_secret)

    # --- the application (appliance.datagrams.application) ------------------------------------------------------------

    def on_role(self, role: Role, term: Term, leader: NodeName | None) -> None:
        """A role is asked for when it matters."""

    def on_members(self, members: Mapping[NodeName, Member]) -> None:
        self._keys.on_members(members)

    def on_committed(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            self._state.apply(entry)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def restore(self, state: bytes) -> None:
        self._state = msgspec.msgpack.decode(state, type=State)

    def fetch_snapshot(self, leader: NodeName) -> None:
        task = asyncio.create_task(self._fetch(leader))
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch(self, leader: NodeName) -> None:
        with contextlib.suppress(OSError, RemoteError):
            reader, writer = await asyncio.open_connection(HOST, self._settings.ports[leader], limit=2**26)
            with contextlib.closing(writer):
                writer.write(msgspec.json.encode(Question("snapshot")) + b"\n")
                line = await reader.readline()
            if line:
                content = base64.b64decode(msgspec.json.decode(line, type=Answer).snapshot)
                self.driver.install(leader, content)

    # --- the server ---------------------------------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it goes."""
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                answer = await self._answer(msgspec.json.decode(line, type=Question))
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()

    async def _answer(self, question: Question) -> Answer:
        status = self.driver.status()
        match question.do:
            case "status":
                return Answer(
                    True,
                    leader=status.leader,
                    term=status.term,
                    settled=status.settled,
                    first_index=status.first_index,
                )
            case "snapshot":
                return Answer(True, snapshot=base64.b64encode(self.driver.snapshot() or b"").decode())
            case "peek":
                return Answer(True, self._state.values.get(question.key))
            case "read" if await self.driver.read() is not None:
                return Answer(True, self._state.values.get(question.key))
            case "command":
                return await self._command(question)
        return Answer(False, leader=self.driver.status().leader)

    async def _command(self, question: Question) -> Answer:
        assert question.command is not None
        assert question.request is not None
        done = await self.driver.submit(msgspec.msgpack.encode(question.command), question.request)
        answer = None if done is None else self._state.answer(question.request)
        if answer is None:
            return Answer(False, leader=self.driver.status().leader)
        return Answer(True, answer[1])


async def run(settings: Settings) -> None:
    """Run until the process is ended."""
    node = RegisterNode(settings)
    async with node.driver:
        server = await asyncio.start_server(node.serve, HOST, settings.ports[settings.me])
        async with server:
            await node.driver.wait()


if __name__ == "__main__":
    # Refused datagrams are what the network of these tests is for.
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(run(msgspec.json.decode(sys.argv[1], type=Settings)))
