"""Leaders that die, resign or lose their majority: the next one goes on from what was committed, and nothing forks."""

import random
import re
import signal
import subprocess
import time

from appliance.operator_api.views import Status
from appliance.words.settings import Consensus, Rounds
from tests.process.cluster import UP_WITHIN_S, Cluster, NodeProcess, cli, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import pass_time, throughout, until

_COLLECTING = re.compile(r"waiting for updates of round \d+: [1-4] of 5")


def test_a_leader_killed_while_it_collects(make_cluster: MakeCluster) -> None:
    """The same round is committed on the same base, and nobody trains for it twice (invariants 2 and 5)."""
    cluster = make_cluster(plan(5))
    # One slow participant keeps the round open for long enough to be killed in.
    cluster["node4"].slow_down(epochs=40)
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    collecting = until(lambda: _status_while_collecting(leader), "some updates, not all", every_s=0.01)
    leader.kill()
    survivors = cluster.running
    round_, base = collecting.round, collecting.model
    assert base is not None

    successor = cluster.wait_leader(survivors, other_than=leader)
    cluster.wait_version(round_, survivors)
    after = successor.lineage()
    assert after[round_ - 1].digest == base.digest
    assert after[round_].base == base.digest
    assert after[round_].term > collecting.term, "the round was committed before the kill: it must be slower"
    for node in survivors:
        assert re.findall(rf"training for round {round_}\b", node.log()) == [f"training for round {round_}"]

    cluster.start(leader.name)
    until(lambda: any(model.updates == 5 for model in leader.lineage()[round_ + 1 :]), "five updates again")
    cluster.check_lineages()
    cluster.check_rounds(leader.lineage())


def _status_while_collecting(leader: NodeProcess) -> Status | None:
    """Return the leader's status if it has some of the round's updates, and not all."""
    status = leader.status()
    collecting = status is not None and any(_COLLECTING.match(wait.reason) for wait in status.waiting)
    return status if collecting else None


def test_leaders_killed_at_any_moment_of_a_round(make_cluster: MakeCluster) -> None:
    """Also while a candidate is stored, proposed or published: no lineage ever forks or goes back (invariant 2)."""
    chosen = random.Random(20231)
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=0.0, deadline_s=20.0)))
    cluster.start()
    for _ in range(4):
        leader = cluster.wait_leader()
        cluster.wait_version(cluster.newest_version() + 2)
        _wait_for_next_round(leader)
        pass_time(chosen.uniform(0.0, 1.5 * _seconds_a_round(leader)))
        leader.kill()
        cluster.wait_leader(other_than=leader)
        version = cluster.newest_version()
        cluster.start(leader.name)
        # Back is who has all that the others had when it started, and one more.
        cluster.wait_version(version + 1)
    for node in cluster.running:
        cluster.check_rounds(node.lineage())
    digests = [[model.digest for model in node.lineage()] for node in cluster.running]
    shortest = min(map(len, digests))
    assert all(digest[:shortest] == digests[0][:shortest] for digest in digests)


def _wait_for_next_round(node: NodeProcess) -> None:
    round_ = until(node.status, "the leader answers").round
    until(lambda: _round_of(node) > round_, "another round opens", every_s=0.005)


def _round_of(node: NodeProcess) -> int:
    status = node.status()
    return status.round if status else 0


def _seconds_a_round(node: NodeProcess) -> float:
    """Return how long the last rounds took from commit to commit."""
    times = [model.committed_at for model in node.lineage()[-3:]]
    return max(0.0, times[-1] - times[0]) / max(1, len(times) - 1)


def test_a_paused_leader_is_replaced_and_follows_when_it_goes_on(make_cluster: MakeCluster) -> None:
    """It takes itself for the leader when it wakes: nobody may see anything of that (invariants 1, 2, 6)."""
    cluster = make_cluster(plan(5, rounds=Rounds(interval_s=0.0, deadline_s=20.0)))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    others = [node for node in cluster.running if node is not leader]
    leader.signal(signal.SIGSTOP)
    successor = cluster.wait_leader(others, other_than=leader)
    cluster.wait_version(cluster.newest_version(others) + 2, others)
    term = until(successor.status, "the new leader answers").term
    leader.signal(signal.SIGCONT)
    until(lambda: cluster.leader() is successor, "all follow the new leader, the one that was paused too")
    assert until(leader.status, "the one that was paused answers").term == term
    version = cluster.newest_version()
    until(lambda: any(model.updates == 5 for model in leader.lineage()[version + 1 :]), "five updates again")
    assert leader.is_running
    assert "Traceback" not in leader.log()
    cluster.check_lineages()
    cluster.check_rounds(leader.lineage())


def test_resignation_on_request_moves_leadership(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(3))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    asked = next(node for node in cluster.running if node is not leader)
    said = subprocess.run(cli("resign", "--config", asked.file), capture_output=True, text=True, timeout=30, check=True)
    successor = cluster.wait_leader(other_than=leader)
    assert said.stdout.startswith(f"{leader.name} handed over to {successor.name} (term ")
    status = until(successor.status, "the new leader answers")
    # It leads on: the one who resigned does not simply win again.
    cluster.wait_version(cluster.newest_version() + 3)
    throughout(lambda: cluster.leader() is not leader, "the one who resigned leads again", for_s=2.0)
    later = until(successor.status, "the new leader answers")
    assert (later.leader, later.term) == (successor.name, status.term)
    cluster.check_lineages()


def test_a_short_period_rotates_leadership_by_itself(make_cluster: MakeCluster) -> None:
    timing = Consensus(heartbeat_interval_s=0.1, election_timeout_s=0.6, period_s=6.0)
    cluster = make_cluster(plan(3, consensus=timing))
    cluster.start()
    first = cluster.wait_leader()
    second = cluster.wait_leader(other_than=first)
    until(lambda: all(_turns(second).get(name) for name in cluster.nodes), "each node has led", within_s=UP_WITHIN_S)
    # The load is shared by turns: nobody leads much more than the others.
    assert max(_turns(second).values()) <= 2
    cluster.wait_version(cluster.newest_version() + 1)
    assert cluster.running == list(cluster.nodes.values())


def _turns(node: NodeProcess) -> dict[str, int]:
    return until(node.status, f"{node.name} answers").turns


def test_a_minority_waits_and_says_so(make_cluster: MakeCluster) -> None:
    """Invariant 6; and issue 2, point 9: never wait in silence."""
    cluster = make_cluster(plan(5))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    # The leader among those that stay: it must notice by itself that it leads no majority.
    others = [node for node in cluster.running if node is not leader]
    stopped, rest = others[:3], [leader, others[3]]
    for node in stopped:
        node.signal(signal.SIGSTOP)
    for node in rest:
        until(lambda node=node: _says_it_waits(node), f"{node.name} says that it waits")  # type: ignore[misc]
    versions = [len(node.lineage()) for node in rest]
    began = time.monotonic()
    throughout(
        lambda: [len(node.lineage()) for node in rest] == versions and not any(map(_leads, rest)),
        "a minority commits nothing and has no leader",
        for_s=3.0,
    )
    for node in rest:
        status = until(node.status, f"{node.name} answers")
        wait = next(wait for wait in status.waiting if wait.who == "node")
        assert wait.since_s >= time.monotonic() - began - 1.0
        assert not status.ready
        assert re.search(r"waiting for a leader: 2 of 5 nodes up, 3 needed; .* down for \d+ s", wait.reason)
        assert all(name in wait.reason for name in (node.name for node in stopped))
    until(lambda: "waiting for a leader: 2 of 5 nodes up, 3 needed" in leader.log(), "a line in the log")
    refused = subprocess.run(
        cli("resign", "--config", leader.file), capture_output=True, text=True, timeout=30, check=False
    )
    assert refused.returncode == 1
    assert refused.stderr == "Error: there is no leader now\n"

    for node in stopped:
        node.signal(signal.SIGCONT)
    cluster.wait_leader()
    cluster.wait_version(max(versions) + 1)


def _says_it_waits(node: NodeProcess) -> bool:
    return node.waits_for("node", "waiting for a leader: 2 of 5 nodes up, 3 needed")


def _leads(node: NodeProcess) -> bool:
    status = node.status()
    return status is not None and (status.role == "leader" or status.aggregator == "active")


def test_two_of_three_killed_and_back(make_cluster: MakeCluster) -> None:
    """The last node standing waits for the others, who come back with what they had made durable."""
    cluster: Cluster = make_cluster(plan(3))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(2)
    killed = [leader, next(node for node in cluster.running if node is not leader)]
    for node in killed:
        node.kill()
    last = cluster.running[0]
    until(lambda: last.waits_for("node", "waiting for a leader: 1 of 3 nodes up, 2 needed"), "it says so")
    version = cluster.newest_version()
    cluster.start(*(node.name for node in killed))
    cluster.wait_leader()
    cluster.wait_version(version + 2)
    for node in cluster.running:
        cluster.check_rounds(node.lineage())
        assert until(node.status, f"{node.name} answers").faults == []
