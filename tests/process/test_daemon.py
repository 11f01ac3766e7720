"""The daemon to those who run it: systemd's notifications, and threads that sleep when they have nothing to do."""

import os
import signal
from pathlib import Path

from appliance.words.settings import Consensus, Rounds
from tests.process.cluster import NodeProcess, plan
from tests.process.conftest import MakeCluster
from tests.process.systemd import Systemd
from tests.process.waiting import pass_time, until

WATCHDOG_S = 1.5
_STEADY = Consensus(heartbeat_interval_s=0.1, election_timeout_s=4.0)
"""No leader changes while one is watched, however busy the machine is."""


def test_systemd_is_notified(make_cluster: MakeCluster, systemd: Systemd) -> None:
    """sd_notify(3): READY once it serves, STATUS as it changes, WATCHDOG in time, STOPPING at the end."""
    cluster = make_cluster(plan(1))
    node = cluster["node0"]
    node.start({"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))})
    until(lambda: "READY=1" in systemd.listen(), "READY=1", within_s=60)
    assert node.status() is not None, "ready, and does not serve"
    assert systemd.heard[0] == "READY=1"
    cluster.wait_version(1)
    status = until(lambda: [line for line in systemd.listen() if line.startswith("STATUS=leader of term 1")], "STATUS")
    assert "round " in status[-1]
    pings = systemd.listen().count("WATCHDOG=1")
    until(lambda: systemd.listen().count("WATCHDOG=1") >= pings + 3, "three pings", within_s=3 * WATCHDOG_S)
    node.signal(signal.SIGTERM)
    assert node.wait_exit() == 0
    assert "STOPPING=1" in systemd.listen()
    assert {line.partition("=")[0] for line in systemd.heard} == {"READY", "STATUS", "WATCHDOG", "STOPPING"}


def test_a_participant_that_hangs_stops_the_pings(make_cluster: MakeCluster, systemd: Systemd) -> None:
    """The event loop of this node turns and consensus ticks; only its training thread stands still."""
    cluster = make_cluster(plan(1))
    node = cluster["node0"]
    node.module = "tests.process.hanging_node"
    node.start({"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))})
    until(lambda: "training for round 1" in node.log(), "training", within_s=60)
    until(lambda: systemd.listen().count("WATCHDOG=1") >= 1, "pings before")
    pass_time(5.0)
    pings = systemd.listen().count("WATCHDOG=1")
    pass_time(2 * WATCHDOG_S)
    assert systemd.listen().count("WATCHDOG=1") == pings, "systemd would take this node for one that lives"
    status = node.status()
    assert status is not None
    assert status.leader == "node0", "all but the participant lives"


def test_ctrl_c_ends_the_node_in_order(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(1))
    cluster.start()
    node = cluster["node0"]
    node.signal(signal.SIGINT)
    assert node.wait_exit() == 0
    assert "SIGINT: stopping" in node.log()
    assert "Traceback" not in node.log()


def test_the_aggregator_sleeps_on_who_does_not_lead(make_cluster: MakeCluster) -> None:
    """Paper: the aggregator is inactive (sleeping) on followers. Its thread uses no CPU through many rounds."""
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=0.0, deadline_s=20.0), consensus=_STEADY))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    follower = next(node for node in cluster.running if node is not leader)
    before = {name: _ticks(follower, name) for name in ("aggregator", "participant")}
    version = cluster.newest_version()
    cluster.wait_version(version + 5)
    assert cluster.leader() is leader
    assert _ticks(follower, "aggregator") == before["aggregator"]
    assert _ticks(follower, "participant") > before["participant"]
    assert _ticks(leader, "aggregator") > 0


def test_a_cluster_between_rounds_uses_next_to_no_cpu(make_cluster: MakeCluster) -> None:
    """No thread spins: between rounds a node costs what its heartbeats and its tick cost."""
    cluster = make_cluster(plan(1, rounds=Rounds(interval_s=3600.0, deadline_s=20.0)))
    cluster.start()
    node = cluster["node0"]
    cluster.wait_version(1)
    until(lambda: (status := node.status()) and status.reply_keys_ready >= 4, "the key pool is full")
    watched_s = 3.0
    before = _ticks(node)
    pass_time(watched_s)
    used_s = (_ticks(node) - before) / os.sysconf("SC_CLK_TCK")
    assert used_s < 0.1 * watched_s, f"{used_s} s of CPU in {watched_s} s"


def _ticks(node: NodeProcess, thread: str | None = None) -> int:
    """Return the CPU time that a node's threads have used, in clock ticks: those of this name, or all."""
    used = []
    for task in Path(f"/proc/{node.pid}/task").iterdir():
        # The name stands in parentheses, and may hold anything; utime and stime are fields 14 and 15 (proc(5)).
        name, _, fields = (task / "stat").read_text().partition("(")[2].rpartition(") ")
        if thread in {None, name}:
            used.append(sum(map(int, fields.split()[11:13])))
    assert used, f"{node.name} has no thread {thread}"
    return sum(used)
