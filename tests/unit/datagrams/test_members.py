"""Members that come and go, snapshots, reads and requests, on real UDP and real disks."""

import asyncio
from pathlib import Path

import pytest

from appliance.consensus.messages import Request
from appliance.datagrams.places import members_of, membership_of, place_of
from appliance.storage.log import ConsensusLog
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.settings import Cluster, Member
from tests.unit.datagrams.loopback import Loopback, Node, free_cluster, until

pytestmark = pytest.mark.timeout(60)


async def fill(node: Node, count: int) -> None:
    """Have so many entries committed."""
    before = len(node.data)
    done = await asyncio.gather(*(node.driver.propose(b"%d" % number) for number in range(count)))
    assert None not in done
    await until(lambda: len(node.data) == before + count)


async def test_a_node_joins_catches_up_by_snapshot_and_leaves(tmp_path: Path) -> None:
    async with Loopback(3, tmp_path, compact_after=50) as cluster:
        leader = cluster.nodes[await cluster.leader()]
        await fill(leader, 200)
        assert leader.driver.status().first_index > 100
        member = free_cluster(1).members["node0"]
        # It is configured with the others' places, they are not configured with its: consensus tells them.
        joined = await cluster.join("node3", member)
        assert joined.driver.status().membership.names == frozenset()
        await leader.driver.add("node3", member)
        await until(lambda: "node3" in leader.driver.status().membership.voters)
        await until(lambda: joined.data == leader.data)
        assert joined.restored >= 1
        await until(lambda: all("node3" in node.members for node in cluster.nodes.values()))
        with pytest.raises(OperatorError, match="a member of the cluster already"):
            await leader.driver.add("node3", member)
        await until(lambda: leader.driver.status().commit_index == leader.driver.status().last_index)
        await leader.driver.remove("node3")
        await until(lambda: "node3" not in joined.members)
        await fill(leader, 1)


async def test_a_node_far_behind_gets_a_snapshot_and_a_restart_begins_with_it(tmp_path: Path) -> None:
    async with Loopback(3, tmp_path, compact_after=20) as cluster:
        leader = cluster.nodes[await cluster.leader()]
        behind = next(name for name in cluster.nodes if cluster.nodes[name] is not leader)
        await cluster.stop(behind)
        await fill(leader, 100)
        again = await cluster.start(behind)
        await until(lambda: again.data == leader.data)
        assert again.restored >= 1
        await cluster.stop(behind)
        with ConsensusLog(tmp_path / behind) as log:
            assert log.kept.snapshot is not None
            assert len(log.kept.entries) <= 60
        once_more = await cluster.start(behind)
        await until(lambda: once_more.data == leader.data)


async def test_reads_and_requests(tmp_path: Path) -> None:
    async with Loopback(3, tmp_path) as cluster:
        first = await cluster.leader()
        leader, follower = cluster.nodes[first], next(n for k, n in cluster.nodes.items() if k != first)
        once = Request("client", 1)
        assert await follower.driver.submit(b"x", once) is None
        done = await asyncio.gather(*(leader.driver.submit(b"x", once) for _ in range(5)))
        assert len(set(done)) == 1
        assert done[0] is not None
        assert leader.data == [b"x"]
        assert await follower.driver.read() is None
        index = await leader.driver.read()
        assert index is not None
        assert index >= done[0]
        assert await leader.driver.transfer()
        await until(lambda: not leader.settled)
        second = cluster.nodes[await cluster.leader()]
        assert await second.driver.submit(b"x", once) == done[0]
        assert second.data == [b"x"]


async def test_a_leader_without_a_majority_answers_no_read_and_no_request(tmp_path: Path) -> None:
    async with Loopback(3, tmp_path) as cluster:
        first = await cluster.leader()
        leader = cluster.nodes[first]
        for name in [name for name in cluster.nodes if name != first]:
            await cluster.stop(name)
        answers = await asyncio.gather(leader.driver.read(), leader.driver.submit(b"x", Request("client", 1)))
        assert set(answers) == {None}
        assert leader.data == []


def test_places_come_back_and_the_own_configuration_counts_more() -> None:
    cluster = Cluster(name="c", members={"a": Member(host="::1", mesh_port=1, consensus_port=2)})
    membership = membership_of(cluster).with_learner("b", place_of(Member(host="b.example", mesh_port=3)))
    assert members_of(membership, cluster) == {
        "a": cluster.members["a"],
        "b": Member(host="b.example", mesh_port=3, consensus_port=7001),
    }
    moved = Cluster(name="c", members={"a": Member(host="10.0.0.1")})
    assert members_of(membership, moved)["a"].host == "10.0.0.1"
    for bad in ("", "host", "host 1", "host x 2", "host 0 2", " 1 2", "h 1 2 3"):
        with pytest.raises(RemoteError, match="place that is none"):
            members_of(membership_of(cluster).with_learner("z", bad), cluster)


async def test_two_nodes_hand_over_and_either_can_be_left_alone(tmp_path: Path) -> None:
    async with Loopback(2, tmp_path) as cluster:
        first = cluster.nodes[await cluster.leader()]
        second = next(node for node in cluster.nodes.values() if node is not first)
        assert await first.driver.resign()
        await until(lambda: second.settled)
        # The leader leaves: whoever stays alone leads, and has nobody to resign to.
        await second.driver.remove(second.name)
        await until(lambda: first.settled and second.name not in first.driver.status().membership.names)
        await until(lambda: second.driver.status().membership.names == {first.name})
        assert not second.settled
        assert not await first.driver.resign()
        await fill(first, 3)
        with pytest.raises(OperatorError, match="the last node that votes"):
            await first.driver.remove(first.name)
        # And comes back, as it is, with its log.
        await first.driver.add(second.name, cluster.cluster.members[second.name])
        await until(lambda: set(second.driver.status().membership.voters) == {first.name, second.name})
        await until(lambda: second.data == first.data)


async def test_a_follower_that_is_removed_from_two_learns_of_it(tmp_path: Path) -> None:
    async with Loopback(2, tmp_path) as cluster:
        leader = cluster.nodes[await cluster.leader()]
        other = next(node for node in cluster.nodes.values() if node is not leader)
        await leader.driver.remove(other.name)
        await until(lambda: leader.members == {leader.name})
        await until(lambda: other.driver.status().membership.names == {leader.name})
        await fill(leader, 3)
