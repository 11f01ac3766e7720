"""Consensus over a network that is slow, loses, repeats, overtakes, and breaks in one direction only."""

import time
from collections.abc import Callable

import pytest

from appliance.node.cluster import ClusterPlan
from appliance.words.settings import Consensus, Rounds
from tests.process.cluster import Cluster, NodeProcess, plan
from tests.process.conftest import MakeCluster
from tests.process.udp_proxy import Quality, UdpProxy
from tests.process.waiting import throughout, until

REPLACED_WITHIN_S = 20.0
"""The paper's own figure for a new leader, on a good network."""

Isolate = Callable[[UdpProxy, NodeProcess, list[NodeProcess]], None]


def behind_proxy(make_cluster: MakeCluster, wanted: ClusterPlan, quality: Quality) -> tuple[Cluster, UdpProxy]:
    """Make a cluster whose consensus goes through a proxy that is not entered yet."""
    cluster = make_cluster(wanted)
    ports = {node.name: node.config.me.consensus_port for node in cluster.nodes.values()}
    return cluster, UdpProxy(ports, seed=7, quality=quality)


def start(cluster: Cluster, network: UdpProxy) -> None:
    for node in cluster.nodes.values():
        node.change(cluster=network.seen_by(node.name, node.config.cluster))
    cluster.start()


def test_slow_and_lossy_network_at_default_settings(make_cluster: MakeCluster) -> None:
    """50 ms each way and 2 % loss: elects, commits, and replaces a killed leader."""
    cluster, proxy = behind_proxy(make_cluster, plan(5, consensus=Consensus()), Quality(delay_s=0.05, loss=0.02))
    with proxy as network:
        start(cluster, network)
        leader = cluster.wait_leader()
        cluster.wait_version(2)

        leader = cluster.wait_leader()
        killed = time.monotonic()
        leader.kill()
        cluster.wait_leader(other_than=leader)
        replaced_s = time.monotonic() - killed
        print(f"replaced in {replaced_s:.2f} s, with {network.counts}")
        assert replaced_s < REPLACED_WITHIN_S
        cluster.wait_version(cluster.newest_version() + 2)

        cluster.start(leader.name)
        cluster.wait_version(cluster.newest_version() + 1)
        cluster.check_rounds(leader.lineage())
        assert network.counts["lost"] > 0


def cannot_send(network: UdpProxy, leader: NodeProcess, others: list[NodeProcess]) -> None:
    network.cut({leader.name}, {node.name for node in others})


def cannot_receive(network: UdpProxy, leader: NodeProcess, others: list[NodeProcess]) -> None:
    network.cut({node.name for node in others}, {leader.name})


@pytest.mark.parametrize("cut", [cannot_send, cannot_receive])
def test_leader_cut_off_in_one_direction(make_cluster: MakeCluster, cut: Isolate) -> None:
    """It is replaced, whichever way it is cut; afterwards it follows, and its lineage is the others'.

    One that can send and not receive keeps its followers' timers from running out: it must step down by itself
    (invariant 6).
    """
    # Who can send counts as live, and may know of no round: then the round waits for it until its deadline.
    wanted = plan(5, rounds=Rounds(interval_s=0.2, deadline_s=3.0))
    cluster, proxy = behind_proxy(make_cluster, wanted, Quality())
    with proxy as network:
        start(cluster, network)
        leader = cluster.wait_leader()
        cluster.wait_version(1)
        others = [node for node in cluster.running if node is not leader]

        cut(network, leader, others)
        successor = cluster.wait_leader(others, other_than=leader)
        until(lambda: leader.status() and not _leads(leader), "the old leader leads no more")
        cluster.wait_version(cluster.newest_version() + 2, others)
        throughout(lambda: not _leads(leader), "the one that is cut off leads again", for_s=1.0)

        term = until(successor.status, "the new leader answers").term
        network.heal()
        # Its return disturbs nobody: it follows, and no election is needed for that.
        until(lambda: (status := leader.status()) and status.leader == successor.name, "it follows the new leader")
        assert until(leader.status, "it answers").term == term
        cluster.wait_version(cluster.newest_version() + 1)
        cluster.check_rounds(leader.lineage())


def _leads(node: NodeProcess) -> bool:
    status = node.status()
    return status is not None and status.role == "leader"


def test_every_datagram_twice_and_out_of_order(make_cluster: MakeCluster) -> None:
    """Nothing changes: one leader, one term, and every node counts once in every round."""
    cluster, proxy = behind_proxy(make_cluster, plan(3), Quality(duplication=1.0, jitter_s=0.03))
    with proxy as network:
        start(cluster, network)
        leader = cluster.wait_leader()
        cluster.wait_version(1)
        term = until(leader.status, "the leader answers").term
        cluster.wait_version(6)
        status = until(leader.status, "the leader answers")
        assert (status.role, status.term) == ("leader", term)
        lineage = leader.lineage()
        cluster.check_rounds(lineage)
        assert {model.updates for model in lineage[2:]} == {3}
        assert network.counts["doubled"] == network.counts["arrived"]
        # They did come twice: the second of each is refused as a repetition.
        assert sum(status.network.datagrams_refused.values()) > 0
