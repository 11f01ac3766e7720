"""One node of ours for ``bench.commit``: the consensus driver with its datagrams and its log, and nothing above it.

    python -m bench.commit_node SETTINGS

SETTINGS is JSON: ``me``, ``ports`` (node name to UDP port, all on loopback), ``folder``, ``secret`` (hex), ``bytes``
(of an entry), ``compact`` (false: the whole log is kept). Commands come as lines on standard input, answers go as JSON
lines to standard output. A follower that fell far behind fetches a snapshot from the TCP port of the same number.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.consensus.messages import Entry, Index
from appliance.consensus.ready import Role
from appliance.datagrams.driver import COMPACT_AFTER, ConsensusDriver
from appliance.words.clock import system_clock
from appliance.words.ids import NodeName, Term
from appliance.words.settings import Cluster, Consensus, Member

HOST = "127.0.0.1"
NEVER = 2**62


class Load:
    """Entries put into the leader of the cluster, in the leader's own process; the application that does nothing."""

    def __init__(self, data: bytes, ports: Mapping[NodeName, int]) -> None:
        self.driver: ConsensusDriver
        self._data = data
        self._ports = ports
        self._fetches: set[asyncio.Task[None]] = set()
        self._terms: dict[Index, Term] = {}
        self._waiting: dict[Index, asyncio.Future[None]] = {}

    def on_committed(self, entries: tuple[Entry, ...]) -> None:
        """Note what was committed, and wake who waits for it."""
        for entry in entries:
            self._terms[entry.index] = entry.term
            waiting = self._waiting.pop(entry.index, None)
            if waiting is not None:
                waiting.set_result(None)

    def on_role(self, role: Role, term: Term, leader: NodeName | None) -> None:
        """A role is asked for when it matters."""

    def on_members(self, members: Mapping[NodeName, Member]) -> None:
        """They never change here."""

    def snapshot(self) -> bytes:
        """Nothing is all that the entries amount to."""
        return b""

    def restore(self, state: bytes) -> None:
        """There is nothing to restore."""

    def fetch_snapshot(self, leader: NodeName) -> None:
        """Get it over TCP."""
        task = asyncio.create_task(self._fetch(leader))
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch(self, leader: NodeName) -> None:
        reader, writer = await asyncio.open_connection(HOST, self._ports[leader])
        content = await reader.read(-1)
        writer.close()
        if content:
            self.driver.install(leader, content)

    async def serve(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Give the newest snapshot to whoever asks."""
        writer.write(self.driver.snapshot() or b"")
        await writer.drain()
        writer.close()

    def leads(self) -> bool:
        """Tell whether this node leads and has committed all that it has."""
        status = self.driver.status()
        return status.settled and status.commit_index == status.last_index

    async def commit(self) -> None:
        """Propose an entry and wait until it is committed."""
        place = await self.driver.propose(self._data)
        if place is None:
            raise SystemExit("this node leads no more: the machine is too busy to measure on")
        index, term = place
        if index not in self._terms:
            self._waiting[index] = asyncio.get_running_loop().create_future()
            await self._waiting[index]
        if self._terms[index] != term:
            raise SystemExit("an entry was lost to an election: the machine is too busy to measure on")

    async def latencies(self, count: int) -> list[float]:
        """Commit one entry after the other; return the seconds of each."""
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            await self.commit()
            seconds.append(time.perf_counter() - began)
        return seconds

    async def throughput(self, count: int, in_flight: int) -> float:
        """Commit many entries, so many of them at a time; return the seconds for all."""
        left = iter(range(count))

        async def work() -> None:
            for _ in left:
                await self.commit()

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(in_flight, count)):
                group.create_task(work())
        return time.perf_counter() - began


async def run(settings: dict[str, Any]) -> None:
    """Run the node until standard input ends."""
    load = Load(b"." * settings["bytes"], settings["ports"])
    members = {name: Member(HOST, consensus_port=port) for name, port in settings["ports"].items()}
    load.driver = ConsensusDriver(
        me=settings["me"],
        cluster=Cluster("bench", members),
        settings=Consensus(),
        folder=Path(settings["folder"]),
        random=random.Random(),
        clock=system_clock,
        application=load,
        compact_after=COMPACT_AFTER if settings["compact"] else NEVER,
    )
    snapshots = await asyncio.start_server(load.serve, HOST, settings["ports"][settings["me"]])
    async with load.driver, snapshots:
        # A real node agrees on these over its mesh; here every pair has the same.
        for peer in members.keys() - {settings["me"]}:
            load.driver.set_secret(peer, bytes.fromhex(settings["secret"]))
        while line := await asyncio.to_thread(sys.stdin.readline):
            command, *numbers = line.split()
            answer: object
            match command:
                case "leads":
                    answer = load.leads()
                case "length":
                    answer = load.driver.status().last_index
                case "latencies":
                    answer = await load.latencies(int(numbers[0]))
                case "throughput":
                    answer = await load.throughput(int(numbers[0]), int(numbers[1]))
                case _:
                    raise SystemExit(f"no such command: {command}")
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.argv[1])))
