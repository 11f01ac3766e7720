"""One member of a cluster in a process of its own, on either engine; says on standard output what happens to it.

    python -m bench.upstream.member raftos|p2pfl NAME PLAN.json FOLDER

Ends when its standard input does, so that none outlives who started it.
"""

import asyncio
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance.consensus.messages import Entry
from appliance.consensus.ready import Role
from appliance.datagrams.driver import ConsensusDriver
from appliance.datagrams.raftos_engine import RaftosEngine
from appliance.node.engine import ConsensusEngine
from appliance.words.clock import system_clock
from appliance.words.ids import NodeName, Term
from appliance.words.settings import Cluster, Consensus, Member

SECRET = bytes(range(32))
"""Of a cluster that lives on loopback for some minutes."""


class Plan(msgspec.Struct, frozen=True):
    """What all members of a cluster have in common."""

    cluster: Cluster
    settings: Consensus


class Event(msgspec.Struct, frozen=True):
    """What happened, at a moment of the machine's monotonic clock: a change of role, or an entry committed."""

    at: float
    term: Term
    role: str | None = None
    leader: NodeName | None = None


def main() -> None:
    """Run one member."""
    engine, name, plan_file, folder = sys.argv[1:]
    plan = msgspec.json.decode(Path(plan_file).read_bytes(), type=Plan)
    asyncio.run(_run(engine, name, plan, Path(folder)))


async def _run(engine: str, name: NodeName, plan: Plan, folder: Path) -> None:
    member = _member(engine, name, plan, folder)
    async with member:
        # A real node agrees on these over its mesh; here every pair has the same.
        for peer in plan.cluster.members.keys() - {name}:
            member.set_secret(peer, SECRET)
        await asyncio.to_thread(sys.stdin.buffer.read)


def _member(engine: str, name: NodeName, plan: Plan, folder: Path) -> ConsensusEngine:
    if engine == "raftos":
        secret = folder.with_suffix(".secret")
        secret.write_bytes(SECRET)
        secret.chmod(0o600)
        return RaftosEngine(
            me=name,
            cluster=plan.cluster,
            settings=msgspec.structs.replace(plan.settings, raftos_secret=secret),
            folder=folder,
            clock=system_clock,
            application=Witness(),
        )
    return ConsensusDriver(
        me=name,
        cluster=plan.cluster,
        settings=plan.settings,
        folder=folder,
        random=random.SystemRandom(),
        clock=system_clock,
        application=Witness(),
    )


class Witness:
    """An application that only tells what happens to it."""

    def on_role(self, role: Role, term: Term, leader: NodeName | None) -> None:
        _say(Event(time.monotonic(), term, role.value, leader))

    def on_committed(self, entries: tuple[Entry, ...]) -> None:
        for entry in entries:
            _say(Event(time.monotonic(), entry.term))

    def on_members(self, members: Mapping[NodeName, Member]) -> None:
        """Nothing to tell."""

    def snapshot(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None:
        """Nothing to tell."""

    def fetch_snapshot(self, leader: NodeName) -> None:
        """These runs are too short for one."""


def _say(event: Event) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
