"""Consensus on real UDP and real disks: elections, restarts, resignation, and a disk that fails."""

import asyncio
import errno
import os
import time
from pathlib import Path

import pytest

from appliance.consensus.ready import Role
from appliance.datagrams.liveness import PAUSES_UP, PING_AFTER
from appliance.storage.log import ConsensusLog
from appliance.words.errors import ApplianceError, StateError
from tests.unit.datagrams.loopback import Loopback, Node, free_cluster, until

pytestmark = pytest.mark.timeout(60)


async def test_three_nodes_elect_and_commit(tmp_path: Path) -> None:
    async with Loopback(3, tmp_path) as cluster:
        leader = cluster.nodes[await cluster.leader()]
        proposals = [leader.driver.propose(b"%d" % number) for number in range(50)]
        assert None not in await asyncio.gather(*proposals)
        expected = [b"%d" % number for number in range(50)]
        await until(lambda: all(node.data == expected for node in cluster.nodes.values()))
        await until(lambda: all(len(node.driver.live_peers()) == 2 for node in cluster.nodes.values()))
        follower = next(node for node in cluster.nodes.values() if node is not leader)
        assert await follower.driver.propose(b"x") is None
        assert not await follower.driver.resign()
        assert leader.roles[-1][0] is Role.LEADER
        with pytest.raises(ValueError, match="1024"):
            await leader.driver.propose(bytes(1025))


async def test_a_lost_leader_is_replaced_and_comes_back_with_all_entries(tmp_path: Path) -> None:
    async with Loopback(3, tmp_path) as cluster:
        first = await cluster.leader()
        await cluster.nodes[first].driver.propose(b"one")
        await until(lambda: all(node.data == [b"one"] for node in cluster.nodes.values()))
        start = time.monotonic()
        await cluster.stop(first)
        second = await cluster.leader()
        print(f"new leader after {time.monotonic() - start:.2f} s")
        third = ({*cluster.nodes} - {first, second}).pop()
        await until(lambda: cluster.nodes[third].driver.status().leader == second)
        assert time.monotonic() - start > PAUSES_UP * PING_AFTER[0] or all(
            first not in cluster.nodes[node].driver.live_peers() for node in (second, third)
        )
        await cluster.nodes[second].driver.propose(b"two")
        again = await cluster.start(first)
        await until(lambda: again.data == [b"one", b"two"])
        assert again.driver.status().leader == second
        await until(lambda: first in cluster.nodes[second].driver.live_peers())


async def test_resignation_hands_over_by_turns(tmp_path: Path) -> None:
    async with Loopback(3, tmp_path) as cluster:
        leaders = [await cluster.leader()]
        for _ in range(2):
            await until(lambda: len(cluster.nodes[leaders[-1]].driver.live_peers()) == 2)
            node = cluster.nodes[leaders[-1]]
            assert await node.driver.resign()
            await until(lambda node=node: not node.settled)  # type: ignore[misc]
            leaders.append(await cluster.leader())
        assert len(set(leaders)) == 3


async def test_a_lone_node_leads_and_does_not_resign(tmp_path: Path) -> None:
    async with Loopback(1, tmp_path) as cluster:
        node = cluster.nodes[await cluster.leader()]
        assert await node.driver.propose(b"x") == (3, 1)
        assert not await node.driver.resign()
        assert not await node.driver.transfer()
        assert node.data == [b"x"]
    async with Loopback(1, tmp_path) as cluster:
        await until(lambda: cluster.nodes["node0"].data == [b"x"])


async def test_a_failed_write_ends_the_driver_and_acknowledges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Loopback(1, tmp_path) as cluster:
        node = cluster.nodes.pop(await cluster.leader())

        def fail(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fdatasync", fail)
        with pytest.raises(StateError, match="the disk is full"):
            await node.driver.propose(b"never")
        with pytest.raises(StateError, match="the disk is full"):
            await node.driver.wait()
        with pytest.raises(StateError, match="the disk is full"):
            await node.driver.__aexit__(None, None, None)
        assert node.data == []


async def test_a_slow_disk_does_not_block_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback(1, tmp_path) as cluster:
        node = cluster.nodes[await cluster.leader()]
        real, turns = ConsensusLog.save, 0

        def slow(log: ConsensusLog, *arguments: object) -> None:
            time.sleep(0.2)
            real(log, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(ConsensusLog, "save", slow)
        proposal = asyncio.create_task(node.driver.propose(b"slow"))
        while not proposal.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 100
        assert node.data == [b"slow"]


async def test_a_leader_with_a_slow_disk_stays_the_leader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback(3, tmp_path) as cluster:
        leader = cluster.nodes[await cluster.leader()]
        term, real = leader.driver.status().term, ConsensusLog.save

        def slow(log: ConsensusLog, *arguments: object) -> None:
            if log is leader.driver._log:
                time.sleep(1.2)
            real(log, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(ConsensusLog, "save", slow)
        await leader.driver.propose(b"slow")
        await until(lambda: all(node.data == [b"slow"] for node in cluster.nodes.values()))
        assert leader.settled
        assert leader.driver.status().term == term


async def test_a_folder_in_use_is_refused_and_an_ended_driver_answers_nothing(tmp_path: Path) -> None:
    cluster = free_cluster(1)
    first = Node(cluster, "node0", tmp_path)
    async with first.driver:
        with pytest.raises(StateError, match="used by another process"):
            await Node(cluster, "node0", tmp_path).driver.__aenter__()
    with pytest.raises(ApplianceError, match="has ended"):
        await first.driver.propose(b"x")
    await first.driver.wait()
