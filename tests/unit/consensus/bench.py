"""A few cores on one table: no delay; the test decides who ticks, which links are cut, and who starts again."""

import random
from collections.abc import Callable, Mapping, Sequence

from appliance.consensus import membership
from appliance.consensus.core import Raft
from appliance.consensus.membership import Membership
from appliance.consensus.messages import AppendEntriesReply, Entry, HardState, Message, RequestVoteReply
from appliance.consensus.quorum import majority
from appliance.consensus.reads import Read
from appliance.consensus.ready import Role, RoleChange
from appliance.consensus.snapshot import Kept, Snapshot
from appliance.words.ids import Monotonic, NodeName, Term
from appliance.words.settings import Consensus
from tests.simulation.consensus.disk import Disk

TIMEOUT = Consensus().election_timeout_s
HEARTBEAT = Consensus().heartbeat_interval_s
T0 = Monotonic(0.0)


def entries(*terms: Term) -> list[Entry]:
    """Return a log with entries of these terms."""
    return [Entry(index, term, "data", b"%d" % index) for index, term in enumerate(terms, 1)]


def core(name: NodeName, size: int, log: Sequence[Entry] = (), state: HardState | None = None) -> Raft:
    """Return one core of a cluster a, b, c, ..."""
    return Raft(
        node=name,
        bootstrap=membership.of("abcdefg"[:size]),
        settings=Consensus(),
        hard_state=state or HardState(log[-1].term if log else 0, None, 0),
        kept=Kept(log),
        random=random.Random(name),
        now=T0,
    )


def election_due(raft: Raft) -> Monotonic:
    """Return when a core stands (again); its next deadline may be to ask once more who has not answered."""
    return raft._election_due


def candidate(size: int, log: Sequence[Entry] = (), state: HardState | None = None) -> Raft:
    """Return core a, which has won its pre-vote and stands."""
    raft = core("a", size, log, state)
    before = raft.term
    raft.tick(raft.next_deadline)
    for voter in "bcdefg"[: majority(size) - 1]:
        raft.step(voter, RequestVoteReply(before + 1, True, True), T0)
    assert (raft.role, raft.term) == (Role.CANDIDATE, before + 1)
    return raft


def leading(size: int, log: Sequence[Entry] = (), state: HardState | None = None) -> Raft:
    """Return core a, which has just won; what it said so far is gone, so no follower has its first entries."""
    raft = candidate(size, log, state)
    for voter in "bcdefg"[: majority(size) - 1]:
        raft.step(voter, RequestVoteReply(raft.term, False, True), T0)
    assert raft.role is Role.LEADER
    raft.ready()
    return raft


def in_state(state: str) -> Raft:
    """Return core a of three as a follower, pre-candidate, candidate or leader; what it said so far is gone."""
    if state == "leader":
        return leading(3)
    raft = candidate(3) if state == "candidate" else core("a", 3)
    if state == "pre-candidate":
        raft.tick(raft.next_deadline)
    raft.ready()
    return raft


def accept(raft: Raft, *followers: NodeName, upto: int | None = None) -> None:
    """Have followers acknowledge a leader's log, all of it or up to an index."""
    for name in followers:
        raft.step(name, AppendEntriesReply(raft.term, True, raft.log.last_index if upto is None else upto), T0)


def led(size: int) -> "Bench":
    """Return a cluster that a leads, settled, as all know."""
    bench = Bench(size)
    bench.stand("a")
    bench.pass_time(2 * HEARTBEAT)
    assert bench.nodes["a"].settled
    return bench


class Bench:
    """A cluster named a, b, c, ... whose messages arrive at once, in order.

    Args:
        logs: what nodes hold already, in the term of its last entry.
        states: their term and vote, where they are others.

    Attributes:
        down: hear nothing, and are heard by nobody.
        cuts: links that carry nothing, in either direction.
        lost: says which messages are lost besides.
    """

    def __init__(
        self,
        size: int,
        logs: Mapping[NodeName, Sequence[Entry]] | None = None,
        states: Mapping[NodeName, HardState] | None = None,
    ) -> None:
        self.now = T0
        self.nodes: dict[NodeName, Raft] = {}
        self.disks: dict[NodeName, Disk] = {}
        self.down: set[NodeName] = set()
        self.cuts: set[frozenset[NodeName]] = set()
        self.lost: Callable[[NodeName, NodeName, Message], bool] = lambda _sender, _to, _message: False
        self.reads: list[Read] = []
        self.restored: list[tuple[NodeName, Snapshot]] = []
        self.sent: list[tuple[NodeName, NodeName, Message]] = []
        self.applied: dict[NodeName, list[Entry]] = {}
        self.changes: dict[NodeName, list[RoleChange]] = {}
        for name in "abcdefg"[:size]:
            disk = self.disks[name] = Disk(membership.of("abcdefg"[:size]))
            disk.entries = list((logs or {}).get(name, ()))
            disk.state = (states or {}).get(name) or HardState(disk.end[0], None, 0)
            self.start(name)

    def start(self, name: NodeName) -> Raft:
        """Start a node from its disk; one that runs ends as if it were killed."""
        disk = self.disks[name]
        raft = self.nodes[name] = Raft(
            node=name,
            bootstrap=disk.bootstrap,
            settings=Consensus(),
            hard_state=disk.state,
            kept=disk.kept,
            random=random.Random(name),
            now=self.now,
        )
        self.applied[name], self.changes[name] = [], []
        return raft

    def join(self, name: NodeName) -> None:
        """Start a node that belongs to no cluster yet."""
        self.disks[name] = Disk(Membership({}))
        self.start(name)

    def cut(self, name: NodeName, *others: NodeName) -> None:
        """Cut a node's links to others."""
        self.cuts |= {frozenset({name, other}) for other in others}

    def leaders(self) -> set[NodeName]:
        """Return all that hold themselves to lead."""
        return {name for name, raft in self.nodes.items() if raft.role is Role.LEADER}

    def read(self, name: NodeName) -> None:
        """Ask a node for a read; ``reads`` holds what it answers."""
        if not self.nodes[name].read(len(self.reads), self.now):
            self.reads.append(Read(len(self.reads), None))

    def settle(self) -> None:
        """Deliver until nobody has more to say."""
        busy = True
        while busy:
            busy = False
            for name, raft in self.nodes.items():
                ready = raft.ready()
                for step in self.disks[name].steps(ready):
                    step()
                self.reads += ready.reads
                if ready.restored is not None:
                    self.restored.append((name, ready.restored))
                if ready.fetch is not None and self._arrives(name, ready.fetch.leader):
                    snapshot = self.nodes[ready.fetch.leader].log.snapshot
                    assert snapshot is not None
                    raft.install(ready.fetch.leader, snapshot, self.now)
                    busy = True
                self.applied[name] += ready.committed
                self.changes[name] += ready.role_changes
                for to, message in ready.messages:
                    busy = True
                    self.sent.append((name, to, message))
                    if self._arrives(name, to) and not self.lost(name, to, message):
                        self.nodes[to].step(name, message, self.now)

    def _arrives(self, sender: NodeName, to: NodeName) -> bool:
        return not {sender, to} & self.down and frozenset({sender, to}) not in self.cuts

    def stand(self, name: NodeName) -> None:
        """Let a node's election timeout pass; the others' clocks stand at the same time, but they are not asked."""
        self.now = Monotonic(max(self.now, election_due(self.nodes[name])))
        self.nodes[name].tick(self.now)
        self.settle()

    def propose(self, name: NodeName, *data: bytes) -> None:
        """Have a leader take proposals, one after another."""
        for each in data:
            assert self.nodes[name].propose(each, self.now) is not None
            self.settle()

    def data(self, name: NodeName) -> list[bytes]:
        """Return what a node has applied since its start, but for what consensus itself wrote."""
        return [entry.data for entry in self.applied[name] if entry.kind == "data"]

    def pass_time(self, seconds: float) -> None:
        """Let time pass for all that are up."""
        self.settle()
        end = self.now + seconds
        while True:
            up = [(raft.next_deadline, name) for name, raft in self.nodes.items() if name not in self.down]
            due, name = min(up)
            if due > end:
                break
            self.now = Monotonic(max(self.now, due))
            self.nodes[name].tick(self.now)
            self.settle()
        self.now = Monotonic(end)
