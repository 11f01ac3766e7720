"""A member turned hostile, and outsiders, flood the leader in every way they know: rounds go on as if nothing were."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from appliance.words.settings import Rounds
from tests.process.cluster import TIME_LENGTH, Cluster, NodeProcess, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

ROUNDS = 6
MIB = 1024 * 1024
HALF_OPEN_BOUND = 64 + 4 * 4
CONNECTIONS_OF_MEMBERS = 3 * 4
FLOOD_FOR_S = 25.0
"""Long enough for all that takes seconds: a handshake's end, patience, refusal, and what comes after it."""

StartFlood = Callable[[NodeProcess, NodeProcess], "subprocess.Popen[bytes]"]


@pytest.fixture
def start_flood() -> Iterator[StartFlood]:
    """Start attackers that end with the test, however it ends."""
    started: list[subprocess.Popen[bytes]] = []

    def start(attacker: NodeProcess, victim: NodeProcess) -> "subprocess.Popen[bytes]":
        said = attacker.folder / "flood.log"
        command = [sys.executable, "-m", "tests.process.flood", str(attacker.file), victim.name]
        with said.open("wb") as log:
            # It must not win by taking the processor from those whom it attacks.
            started.append(subprocess.Popen(["nice", "-n", "15", *command], stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


class Usage:
    """The most memory and descriptors that a process was seen to use."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc") / str(pid)
        self.memory = 0
        self.descriptors = 0

    def look(self) -> "Usage":
        resident = re.search(r"^VmRSS:\s+(\d+) kB$", (self._folder / "status").read_text(), re.MULTILINE)
        assert resident is not None
        self.memory = max(self.memory, int(resident[1]) * 1024)
        self.descriptors = max(self.descriptors, len(list((self._folder / "fd").iterdir())))
        return self


def _rounds_take(cluster: Cluster, rounds: int) -> float:
    """Return how many seconds as many rounds take, to all nodes' knowledge."""
    start = time.monotonic()
    cluster.wait_version(cluster.newest_version() + rounds)
    return time.monotonic() - start


@pytest.mark.timeout(300)
def test_rounds_go_on_while_a_member_and_outsiders_flood_the_leader(
    make_cluster: MakeCluster, start_flood: StartFlood
) -> None:
    cluster = make_cluster(plan(4, rounds=Rounds(interval_s=1.0, deadline_s=20.0)))
    attacker = cluster["node3"]
    cluster.start("node0", "node1", "node2")
    leader = cluster.wait_leader()
    cluster.wait_version(2)
    calm_s = _rounds_take(cluster, ROUNDS)
    before = until(leader.status, "the leader answers")
    pids = {node.name: node.pid for node in cluster.running}
    calm, flooded = Usage(leader.pid).look(), Usage(leader.pid)

    flood = start_flood(attacker, leader)
    said = attacker.folder / "flood.log"
    until(lambda: b"datagrams" in said.read_bytes(), "the flood has begun")
    flooded_s = _rounds_take(cluster, ROUNDS)
    end = time.monotonic() + FLOOD_FOR_S
    until(lambda: flooded.look() and time.monotonic() > end, "the flood goes on for a while", within_s=FLOOD_FOR_S + 10)
    late_s = _rounds_take(cluster, ROUNDS)
    assert flood.poll() is None, said.read_text()
    flooded.look()
    print(f"{ROUNDS} rounds: {calm_s:.1f} s, flooded {flooded_s:.1f} s, later {late_s:.1f} s")
    print(f"calm {calm.memory // MIB} MiB, {calm.descriptors} descriptors; flooded {flooded.memory // MIB} MiB,")
    print(f"{flooded.descriptors} descriptors; {said.read_text().splitlines()[-1]}")

    # The attacker's own work takes time of the same two processors; what may not be is waiting for timeouts.
    assert max(flooded_s, late_s) < 2 * calm_s + 10
    after = until(leader.status, "the leader answers")
    assert (after.leader, after.term) == (before.leader, before.term)
    assert {node.name: node.pid for node in cluster.running} == pids
    # A half-open connection holds 256 KiB, another one of a member less than one MiB, and one message 64 MiB at most.
    assert flooded.descriptors <= calm.descriptors + HALF_OPEN_BOUND + CONNECTIONS_OF_MEMBERS + 20
    assert flooded.memory < calm.memory + 150 * MIB
    for node in cluster.running:
        assert until(node.status, f"{node.name} answers").faults == []
        assert "Traceback" not in node.log()
        cluster.check_rounds(node.lineage())
        _check_said_once_a_minute(node)
        assert not re.search("mesh: node[012]: ", node.log()), "an honest node was taken for a hostile one"
    cluster.check_lineages()
    for reason in (
        "strangers: too many connections without a member's certificate",
        "strangers: connect too often from one address",
        "node3: sends more than its share: it has to wait",
        "node3: goes on sending more than its share",
    ):
        assert reason in _without_addresses(leader.log()), f"the leader does not say: {reason}"


def _without_addresses(log: str) -> str:
    return re.sub(r" \(the latest: [^)]*\)", "", log)


def _check_said_once_a_minute(node: NodeProcess) -> None:
    times: dict[str, list[datetime]] = {}
    for line in _without_addresses(node.log()).splitlines():
        if "once a minute" in line:
            times.setdefault(line[TIME_LENGTH:], []).append(datetime.fromisoformat(line[:TIME_LENGTH]))
    for sentence, when in times.items():
        assert all(later - earlier > timedelta(seconds=59) for earlier, later in pairwise(when)), (sentence, when)
