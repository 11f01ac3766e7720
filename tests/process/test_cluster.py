"""Five nodes at work: election, rounds, the outside contract, an orderly end; and the smallest clusters there are."""

import json
import signal
import urllib.request
from typing import Any

from appliance.words.settings import Rounds
from tests.process.cluster import COMMIT_WITHIN_S, Cluster, NodeProcess, digest, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

STATUS_KEYS = {
    "node",
    "role",
    "term",
    "leader",
    "participant",
    "aggregator",
    "round",
    "model",
    "peers",
    "period_left_s",
    "ready",
    "version",
}
"""What scripts rely on: design.md, section 5."""
LINEAGE_KEYS = {"version", "round", "term", "digest", "updates", "samples", "accuracy", "loss", "committed_at"}


def test_five_nodes_elect_commit_and_end_in_order(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(5))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(2)
    leader = until(lambda: _sound_leader(cluster), "a leader, and the contract's status on all")
    _check_model(leader)
    lineage = leader.lineage()
    cluster.check_rounds(lineage)
    assert any(model.updates == 5 for model in lineage)
    _check_contract(leader)

    # The leader first: another leads before it has gone, and the exit is clean and in time.
    followers = [node for node in cluster.running if node is not leader]
    leader.signal(signal.SIGTERM)
    assert leader.wait_exit() == 0
    assert "handing over leadership" in leader.log()
    successor = cluster.wait_leader(followers, other_than=leader)
    elections = json.loads(successor.api.get("/v1/elections"))
    assert {"at", "term", "node", "from", "to"} <= elections[-1].keys()
    cluster.wait_version(cluster.newest_version() + 1, followers)
    for node in followers:
        node.signal(signal.SIGTERM)
    assert [node.wait_exit() for node in followers] == [0, 0, 0, 0]
    for node in cluster.nodes.values():
        assert "Traceback" not in node.log()


def _sound_leader(cluster: Cluster) -> NodeProcess | None:
    """Return the leader if all nodes see each other up and agree on it; None while they are still at it."""
    leader = cluster.leader()
    if leader is None:
        return None
    for node in cluster.running:
        status: dict[str, Any] = json.loads(node.api.get("/v1/status"))
        assert status.keys() >= STATUS_KEYS
        assert status["node"] == node.name
        assert status["participant"] == "active"
        assert status["aggregator"] in {"active", "inactive"}
        assert status["faults"] == []
        assert status["model"].keys() >= {"version", "digest", "accuracy", "loss"}
        assert status["peers"].keys() == cluster.nodes.keys() - {node.name}
        leads = node is leader
        if (
            status["role"] != ("leader" if leads else "follower")
            or status["leader"] != leader.name
            or status["aggregator"] != ("active" if leads else "inactive")
            or (status["period_left_s"] is None) == leads
            or set(status["peers"].values()) != {"up"}
            or not status["ready"]
        ):
            return None
    return leader


def _check_model(node: NodeProcess) -> None:
    """The bytes' hash is the entity tag, and that is in the lineage."""
    settings = node.config.operator
    url = f"http://{settings.host}:{settings.port}/v1/model"
    with urllib.request.urlopen(url, timeout=10) as answer:
        tag = answer.headers["ETag"].strip('"')
        content = answer.read()
    assert digest(content) == tag
    assert tag in [model.digest for model in node.lineage()]


def _check_contract(node: NodeProcess) -> None:
    lineage = json.loads(node.api.get("/v1/lineage"))
    assert all(model.keys() >= LINEAGE_KEYS for model in lineage)
    assert b"p2pfl_model_version" in node.api.get("/metrics")
    assert node.api.get("/healthz")


def test_a_cluster_of_one_elects_itself_and_commits(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(1))
    cluster.start()
    node = cluster.wait_leader()
    cluster.wait_version(3)
    lineage = node.lineage()
    cluster.check_rounds(lineage)
    assert {model.updates for model in lineage[1:]} == {1}
    assert node.stop() == 0


def test_a_node_that_never_came_costs_no_deadline(make_cluster: MakeCluster) -> None:
    """Issue 2, point 9: "all live peers" means live by heartbeat."""
    deadline_s = 600.0
    assert deadline_s > COMMIT_WITHIN_S
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=0.2, deadline_s=deadline_s)))
    cluster.start("node0", "node2")
    leader = cluster.wait_leader()
    cluster.wait_version(3)
    assert {model.updates for model in leader.lineage()[1:]} <= {2}
    status = leader.status()
    assert status is not None
    assert status.peers["node1"] == "down"

    # Who comes late takes part.
    cluster.start("node1")
    until(lambda: cluster["node1"].lineage()[-1:] and cluster["node1"].lineage()[-1].updates == 3, "three updates")
    cluster.check_lineages()
