"""Five processes on loopback, their leader killed with -9, several times: who leads next, and does it commit."""

import asyncio
import contextlib
import random
import socket
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.words.settings import Cluster, Consensus, Member
from bench.upstream.member import Event, Plan

T = TypeVar("T")

NODES = 5
LEADER_WITHIN_S = 30.0
COMMIT_WITHIN_S = 5.0
POLL_S = 0.01
REST_S = 1.0
"""Between agreement and the next kill, at most."""


class Process:
    """One member: its process, and what it has said since its start."""

    def __init__(self, engine: str, name: str, folder: Path, process: asyncio.subprocess.Process) -> None:
        self.engine, self.name, self.folder = engine, name, folder
        self._process = process
        self.events: list[Event] = []
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, engine: str, name: str, folder: Path) -> "Process":
        with (folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "bench.upstream.member", engine, name),
                *(str(folder / "plan.json"), str(folder / name)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        return cls(engine, name, folder, process)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.events.append(msgspec.json.decode(line, type=Event))

    @property
    def role(self) -> Event | None:
        """The last change of role."""
        return next((event for event in reversed(self.events) if event.role is not None), None)

    def check(self) -> None:
        """Raise RuntimeError if the process has ended."""
        if self._process.returncode is not None:
            log = (self.folder / f"{self.name}.log").read_text(errors="replace").splitlines()
            raise RuntimeError(f"{self.name} ended by itself: {log[-1] if log else 'without a word'}")

    async def kill(self) -> float:
        """Kill with -9; return when."""
        at = time.monotonic()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reader
        return at


class Run:
    """A cluster and what the kills in it showed."""

    def __init__(self) -> None:
        self.members: dict[str, Process] = {}
        self.leaders: dict[int, set[str]] = defaultdict(set)
        self.seconds: list[float] = []
        self.leaderless = 0
        self.committed = 0
        self.ended_early = ""

    def agreed(self) -> Process | None:
        """Return the leader that all members name in one term. Raises RuntimeError if one has ended by itself."""
        for member in self.members.values():
            member.check()
        roles = [member.role for member in self.members.values()]
        named = {(role.term, role.leader) for role in roles if role is not None}
        if None in roles or len(named) != 1:
            return None
        name = named.pop()[1]
        leader = self.members.get(name or "")
        return leader if leader is not None and leader.role is not None and leader.role.role == "leader" else None

    def note(self, member: Process) -> None:
        """Remember the terms that a member has led; call it before its events are lost."""
        for event in member.events:
            if event.role == "leader":
                self.leaders[event.term].add(member.name)

    async def kill_and_watch(self, victim: Process) -> None:
        """Kill a leader, and watch what the others make of it."""
        survivors = [member for member in self.members.values() if member is not victim]
        killed = await victim.kill()
        self.note(victim)

        def elected() -> Event | None:
            found = [e for member in survivors for e in member.events if e.role == "leader" and e.at > killed]
            return min(found, key=lambda event: event.at, default=None)

        event = await until(elected, LEADER_WITHIN_S)
        if event is None:
            self.leaderless += 1
            return
        self.seconds.append(event.at - killed)

        def committed() -> bool:
            later = [e.term for member in survivors for e in member.events if e.role is None and e.at > killed]
            return any(term >= event.term for term in later)

        self.committed += bool(await until(committed, COMMIT_WITHIN_S))

    def cell(self) -> str:
        """Sum up."""
        kills = len(self.seconds) + self.leaderless
        parts = [f"{kills} kills"]
        if self.seconds:
            parts.append(
                f"new leader after {statistics.median(self.seconds):.2f} s, at worst {max(self.seconds):.2f} s"
            )
        if self.leaderless:
            parts.append(f"none within {LEADER_WITHIN_S:g} s {self.leaderless} times")
        parts.append(f"{self.committed} of {len(self.seconds)} committed an entry within {COMMIT_WITHIN_S:g} s")
        parts.append(f"terms with two leaders: {sum(len(names) > 1 for names in self.leaders.values())}")
        return "; ".join(parts + ([self.ended_early] if self.ended_early else []))


async def measure(engine: str, folder: Path, settings: Consensus, kills: int, seed: int) -> str:
    """Kill as many leaders, one after the other, starting each victim again; return the table's cell."""
    rest = random.Random(seed)
    names = [f"node{number}" for number in range(NODES)]
    ports = _free_ports()
    members = {name: Member(host="127.0.0.1", consensus_port=port) for name, port in zip(names, ports, strict=True)}
    plan = Plan(Cluster(name="bench", members=members), settings)
    (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
    async with _running(engine, folder, names) as run:
        for _ in range(kills):
            leader = await until(run.agreed, LEADER_WITHIN_S)
            if leader is None:
                run.ended_early = f"then the five agreed on no leader for {LEADER_WITHIN_S:g} s"
                break
            await asyncio.sleep(rest.uniform(0.0, REST_S))
            await run.kill_and_watch(leader)
            print(f"{engine}: {run.cell()}", file=sys.stderr)
            run.members[leader.name] = await Process.start(engine, leader.name, folder)
        for member in run.members.values():
            run.note(member)
        return run.cell()


@contextlib.asynccontextmanager
async def _running(engine: str, folder: Path, names: list[str]) -> AsyncIterator[Run]:
    run = Run()
    try:
        for name in names:
            run.members[name] = await Process.start(engine, name, folder)
        yield run
    finally:
        for member in run.members.values():
            await member.kill()


def _free_ports() -> list[int]:
    """Return UDP ports that are free on loopback, below those that the system gives out by itself."""
    picker, ports = random.SystemRandom(), set[int]()
    while len(ports) < NODES:
        port = picker.randrange(15_000, 32_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.add(port)
    return sorted(ports)


async def until(condition: Callable[[], T | None], within_s: float) -> T | None:
    """Poll until the condition holds; return what it found, or None after ``within_s`` seconds."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        await asyncio.sleep(POLL_S)
    return None
