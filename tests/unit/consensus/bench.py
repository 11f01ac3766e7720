"""A few cores on one table: no disk, no delay; the test decides who ticks and which links are cut."""

import random
from collections.abc import Mapping, Sequence

from appliance.consensus import membership
from appliance.consensus.core import Raft
from appliance.consensus.membership import Membership
from appliance.consensus.messages import Entry, HardState, Message
from appliance.consensus.reads import Read
from appliance.consensus.ready import RoleChange
from appliance.consensus.snapshot import Kept, Snapshot
from appliance.words.ids import Monotonic, NodeName, Term
from appliance.words.settings import Consensus

TIMEOUT = Consensus().election_timeout_s


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
        now=Monotonic(0.0),
    )


def led(size: int) -> "Bench":
    """Return a cluster that a leads, settled, as all know."""
    bench = Bench(size)
    bench.stand("a")
    bench.pass_time(2 * Consensus().heartbeat_interval_s)
    assert bench.nodes["a"].settled
    return bench


class Bench:
    """A cluster named a, b, c, ... whose messages arrive at once, in order."""

    def __init__(self, size: int, logs: Mapping[NodeName, Sequence[Entry]] | None = None) -> None:
        self.now = Monotonic(0.0)
        self.nodes = {name: core(name, size, (logs or {}).get(name, ())) for name in "abcdefg"[:size]}
        self.down: set[NodeName] = set()
        self.reads: list[Read] = []
        self.restored: list[tuple[NodeName, Snapshot]] = []
        self.sent: list[tuple[NodeName, NodeName, Message]] = []
        self.applied: dict[NodeName, list[Entry]] = {name: [] for name in self.nodes}
        self.changes: dict[NodeName, list[RoleChange]] = {name: [] for name in self.nodes}

    def join(self, name: NodeName) -> None:
        """Start a node that belongs to no cluster yet."""
        self.nodes[name] = Raft(
            node=name,
            bootstrap=Membership({}),
            settings=Consensus(),
            hard_state=HardState(),
            kept=Kept(),
            random=random.Random(name),
            now=self.now,
        )
        self.applied[name], self.changes[name] = [], []

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
                self.reads += ready.reads
                if ready.restored is not None:
                    self.restored.append((name, ready.restored))
                if ready.fetch is not None and not {name, ready.fetch.leader} & self.down:
                    snapshot = self.nodes[ready.fetch.leader].log.snapshot
                    assert snapshot is not None
                    raft.install(ready.fetch.leader, snapshot, self.now)
                    busy = True
                self.applied[name] += ready.committed
                self.changes[name] += ready.role_changes
                for to, message in ready.messages:
                    busy = True
                    self.sent.append((name, to, message))
                    if not {name, to} & self.down:
                        self.nodes[to].step(name, message, self.now)

    def stand(self, name: NodeName) -> None:
        """Let a node's election timeout pass; the others' clocks stand at the same time, but they are not asked."""
        self.now = Monotonic(max(self.now, self.nodes[name].next_deadline))
        self.nodes[name].tick(self.now)
        self.settle()

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
