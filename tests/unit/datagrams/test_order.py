"""A ``Ready`` is carried out in its order, on real disks: durable, then sent, then told and applied, then answered."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.consensus.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entry,
    HardState,
    Index,
    RequestVote,
    RequestVoteReply,
    decode,
)
from appliance.consensus.ready import Role
from appliance.consensus.snapshot import Compaction
from appliance.words.ids import NodeName, Term
from tests.unit.datagrams.loopback import Loopback, Node, until

pytestmark = pytest.mark.timeout(60)

SLOW_S = 0.02
"""A write takes at least that, so that what does not wait for it is caught."""


class Watched:
    """What one node has made durable, and what it did too early."""

    def __init__(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        self.node = node
        self.index: Index = 0
        self.applied: Index = 0
        self.vote: tuple[Term, NodeName | None] = (0, None)
        self.too_early: list[str] = []
        self.sent = 0
        self._save = node.driver._log.save
        self._send = node.driver._datagrams.send
        self._apply = node.on_committed
        monkeypatch.setattr(node.driver._log, "save", self.save)
        monkeypatch.setattr(node.driver._datagrams, "send", self.send)
        monkeypatch.setattr(node, "on_committed", self.apply)

    def save(
        self,
        state: HardState | None,
        compaction: Compaction | None,
        truncate_from: Index | None,
        entries: Sequence[Entry],
    ) -> None:
        time.sleep(SLOW_S)
        self._save(state, compaction, truncate_from, entries)
        if state is not None:
            self.vote = state.term, state.voted_for
        if truncate_from is not None:
            self.index = truncate_from - 1
        if entries:
            self.index = entries[-1].index

    def send(self, peer: NodeName, content: bytes) -> None:
        message, holds = decode(content), True
        match message:
            case RequestVoteReply(pre_vote=False, granted=True):
                holds = self.vote == (message.term, peer)
            case RequestVote(pre_vote=False):
                holds = self.vote == (message.term, self.node.name)
            case AppendEntriesReply(accepted=True):
                holds = message.index <= self.index
            case AppendEntries():
                holds = message.previous_index + len(message.entries) <= self.index
        if not holds:
            self.too_early.append(f"{self.node.name} sends {message}")
        self.sent += 1
        self._send(peer, content)

    def apply(self, entries: tuple[Entry, ...]) -> None:
        if entries[-1].index > self.index:
            self.too_early.append(f"{self.node.name} applies {entries[-1].index}, and {self.index} is durable")
        for entry in entries:
            leads = self.node.roles[-1:] == [(Role.LEADER, entry.term, self.node.name)]
            if entry.kind == "no-op" and entry.data == self.node.name.encode() and not leads:
                self.too_early.append(f"{self.node.name} applies its no-op of term {entry.term} as {self.node.roles}")
        self.applied = entries[-1].index
        self._apply(entries)


async def test_nothing_is_sent_or_applied_before_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback(3, tmp_path) as cluster:
        watched = [Watched(node, monkeypatch) for node in cluster.nodes.values()]
        for _ in range(3):
            leader = cluster.nodes[await cluster.leader()]
            await asyncio.gather(*[leader.driver.propose(b"x") for _ in range(10)])
            await until(lambda: len({node.driver.status().commit_index for node in cluster.nodes.values()}) == 1)
            await leader.driver.transfer()
            await until(lambda leader=leader: not leader.settled)  # type: ignore[misc]
        await cluster.leader()
        assert [each for one in watched for each in one.too_early] == []
        assert min(one.sent for one in watched) > 0
        assert min(one.applied for one in watched) > 20


async def test_a_lone_leader_is_told_so_before_its_no_op_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its whole election is one ``Ready``."""
    async with Loopback(1, tmp_path) as cluster:
        (node,) = cluster.nodes.values()
        watched = Watched(node, monkeypatch)
        await cluster.leader()
        await until(lambda: watched.applied > 0)
        assert watched.too_early == []


async def test_answers_come_when_what_they_tell_of_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Loopback(1, tmp_path) as cluster:
        node = cluster.nodes[await cluster.leader()]
        watched = Watched(node, monkeypatch)
        seen: list[tuple[Index, Index]] = []

        async def propose() -> None:
            place = await node.driver.propose(b"x")
            assert place is not None
            seen.append((place[0], watched.index))

        async def read() -> None:
            index = await node.driver.read()
            assert index is not None
            seen.append((index, watched.applied))

        for _ in range(3):
            await asyncio.gather(propose(), read())
        assert all(told <= done for told, done in seen)
        assert [told for told, _ in seen[-2:]] == [5, 5], "the read is of the same moment as the proposal"


async def test_a_restart_applies_what_follows_the_snapshot_after_it(tmp_path: Path) -> None:
    async with Loopback(1, tmp_path, compact_after=8) as cluster:
        node = cluster.nodes[await cluster.leader()]
        for number in range(13):
            await node.driver.propose(b"%d" % number)
        await cluster.stop("node0")
        again = await cluster.start("node0")
        await cluster.leader()
        await until(lambda: len(again.data) >= 13)
        assert again.restored == 1
        assert again.data == [b"%d" % number for number in range(13)]
