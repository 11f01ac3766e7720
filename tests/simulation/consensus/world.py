"""A cluster of real cores in a virtual world: clock, network, disks and crashes, all from one seed."""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from appliance.consensus import membership
from appliance.consensus.core import Raft
from appliance.consensus.membership import Membership
from appliance.consensus.messages import MESSAGE_LIMIT, Index, Message, decode, encode
from appliance.consensus.ready import Fetch, Ready, Role
from appliance.consensus.snapshot import decode_snapshot, encode_snapshot
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import Monotonic, NodeName
from appliance.words.settings import Consensus
from tests.simulation.consensus.disk import Disk
from tests.simulation.consensus.invariants import Witness, require

BUSY = 100_000
"""Events of one history: many times what the longest need, so that more of them are a loop that does not end."""

OVERDUE = 5
"""Ticks in a row that leave a deadline in the past: more of them do nothing. A few things may be due at once."""


@dataclass(slots=True)
class Faults:
    """How bad the world is. The defaults are a quiet LAN.

    Attributes:
        loss, duplication, late: chances of a message to be lost, to come twice, to come a second late.
        delay, disk: seconds that a message takes at most, and a write on average.
        mesh: seconds that a snapshot takes on its way at most; it is lost as often as a message.
        ambush: chance of a new leader to be given proposals, and to crash while they are on their way (figure 8).
        revive: seconds after which a crashed node is started again, on average; None: only when it is asked for.
    """

    loss: float = 0.0
    duplication: float = 0.0
    late: float = 0.0
    delay: float = 0.001
    disk: float = 0.002
    mesh: float = 0.05
    ambush: float = 0.0
    revive: float | None = None


@dataclass(slots=True)
class Process:
    """One run of a node, from its start to its crash.

    Attributes:
        offset: its monotonic clock starts anywhere.
        applied: indices of the entries that the application has applied; its whole state.
        saving: the ``Ready`` whose write is under way.
        paused: it gets no processor until then.
        reads: what was committed anywhere when each open read was asked.
        overdue: ticks in a row that did not do all that was due.
    """

    raft: Raft
    offset: float
    applied: list[Index] = field(default_factory=list)
    saving: Ready | None = None
    paused: float = 0.0
    inbox: list[Callable[["Process", Monotonic], None]] = field(default_factory=list)
    commit: Index = 0
    alarm: float = math.inf
    fetching: bool = False
    reads: dict[int, Index] = field(default_factory=dict)
    overdue: int = 0


class World:
    """N nodes, one virtual clock, one seeded source of all chance.

    Args:
        size: members at the beginning.
        spare: nodes that may join.
        compact_after: committed entries after which a node makes a snapshot; half as many stay in the log.
    """

    def __init__(
        self, seed: int, size: int, settings: Consensus | None = None, *, spare: int = 0, compact_after: int = 10**6
    ) -> None:
        self.random = random.Random(seed)
        self.settings = settings or Consensus()
        self.now = 0.0
        self.faults = Faults()
        self.compact_after = compact_after
        self.names = [f"node{i}" for i in range(size)]
        self.spare = [f"node{i}" for i in range(size, size + spare)]
        begins_with = membership.of(self.names)
        self.disks = {name: Disk(begins_with) for name in self.names}
        # A node that is to join knows of no cluster, and waits until a leader calls.
        self.disks |= {name: Disk(Membership({})) for name in self.spare}
        self.running: dict[NodeName, Process] = {}
        self.cuts: set[tuple[NodeName, NodeName]] = set()
        self.witness = Witness(self.disks, begins_with)
        self.trace: deque[str] = deque(maxlen=60)
        self.sent = self.installed = self.answered = self._happened = 0
        self.most_events: float = BUSY
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._questions = itertools.count()
        for name in self.names:
            self.start(name)

    # --- time ---------------------------------------------------------------------------------------------------------

    def at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), event))

    def run_until(self, time: float) -> None:
        """Let everything happen that happens before ``time``."""
        while self._events and self._events[0][0] <= time:
            self.now, _, event = heapq.heappop(self._events)
            self._happened += 1
            require(self._happened < self.most_events, "a history without end")
            event()
        self.now = time

    def run_till(self, condition: Callable[[], bool], bound: float, step: float = 0.005) -> bool:
        """Let time pass until a condition holds; say whether it came to hold within ``bound`` seconds."""
        end = self.now + bound
        while not condition():
            if self.now >= end:
                return False
            self.run_until(self.now + step)
        return True

    # --- what the outside does ----------------------------------------------------------------------------------------

    def start(self, name: NodeName) -> None:
        """Start a node from its disk."""
        disk, offset = self.disks[name], self.random.uniform(0, 1e6)
        raft = Raft(
            node=name,
            bootstrap=disk.bootstrap,
            settings=self.settings,
            hard_state=disk.state,
            kept=disk.open(),
            random=random.Random(self.random.random()),
            now=Monotonic(self.now + offset),
        )
        process = self.running[name] = Process(raft, offset)
        self.witness.on_started(name, raft)
        self._say(f"{name} starts in term {raft.term}")
        self._process(name, process)

    def crash(self, name: NodeName) -> None:
        """Kill a node; of a write under way some beginning is durable (none and all of it included)."""
        process = self.running.pop(name)
        if process.saving is not None:
            steps = list(self.disks[name].steps(process.saving))
            done = self.random.randint(0, len(steps))
            for step in steps[:done]:
                step()
            self._say(f"{name} crashes after {done} of {len(steps)} steps of a write")
            self.witness.on_saved(name)
        else:
            self._say(f"{name} crashes")
        if self.faults.revive is not None:
            after = self.random.expovariate(1 / self.faults.revive)
            self.at(self.now + after, lambda: None if name in self.running else self.start(name))

    def pause(self, name: NodeName, seconds: float) -> None:
        """Give a node no processor for a while; what arrives meanwhile waits."""
        self._say(f"{name} pauses for {seconds:.2f} s")
        self.running[name].paused = self.now + seconds
        process = self.running[name]
        self.at(self.now + seconds, lambda: self._process(name, process))

    def ask(self, name: NodeName, what: Callable[[Raft, Monotonic], object]) -> None:
        """Call the core of a node."""
        self._give(name, lambda process, now: self._say(f"{name} is asked: {what(process.raft, now)}"))

    def join(self, name: NodeName) -> None:
        """Start a node that is none of the cluster yet, and have the leader let it in."""
        if name in self.spare:
            self.spare.remove(name)
            self.names.append(name)
            self.start(name)
        self.change(lambda raft, now: raft.add(name, name, now))

    def change(self, what: Callable[[Raft, Monotonic], object]) -> None:
        """Have the leader change the members, if it can."""

        def attempt(raft: Raft, now: Monotonic) -> object:
            try:
                what(raft, now)
            except OperatorError as error:
                return error
            return raft.log.membership

        leader = self.leader()
        if leader is not None:
            self.ask(leader, attempt)

    def read(self, name: NodeName) -> None:
        """Ask a node for a linearizable read."""
        number, floor = next(self._questions), len(self.witness.committed)

        def question(process: Process, now: Monotonic) -> None:
            if process.raft.read(number, now):
                process.reads[number] = floor

        self._give(name, question)

    def cut(self, source: NodeName, target: NodeName) -> None:
        """Cut one direction of one link."""
        self.cuts.add((source, target))

    def heal(self) -> None:
        """End all faults: quiet network, all nodes running."""
        self.cuts.clear()
        self.faults = Faults()
        for name in self.names:
            if name not in self.running:
                self.start(name)
        self._say("all faults end")

    def leader(self) -> NodeName | None:
        """Return the running leader of the latest term."""
        leaders = [(p.raft.term, n) for n, p in self.running.items() if p.raft.role is Role.LEADER]
        return max(leaders)[1] if leaders else None

    def raft(self, name: NodeName) -> Raft:
        return self.running[name].raft

    # --- a node's shell: the order that Ready demands -----------------------------------------------------------------

    def _give(self, name: NodeName, action: Callable[[Process, Monotonic], None]) -> None:
        process = self.running.get(name)
        if process is not None:
            process.inbox.append(action)
            self._process(name, process)

    def _process(self, name: NodeName, process: Process) -> None:
        if self.running.get(name) is not process or process.saving is not None or self.now < process.paused:
            return
        now = Monotonic(self.now + process.offset)
        actions, process.inbox = process.inbox, []
        for action in actions:
            action(process, now)
        if now >= process.raft.next_deadline:
            process.raft.tick(now)
            process.overdue = process.overdue + 1 if now >= process.raft.next_deadline else 0
            require(process.overdue < OVERDUE, f"{name}: its deadline is past, and its tick does nothing")
        ready = process.raft.ready()
        self.witness.on_stepped(name, process.raft, ready, self.disks[name])
        require(process.raft.log.commit >= process.commit, f"{name}: its commit fell")
        if ready.must_save:
            process.saving = ready
            self.at(self.now + self.random.expovariate(1 / self.faults.disk), lambda: self._saved(name, process))
            self._keep_alive_later(name, process, ready)
        else:
            self._finish(name, process, ready)

    def _keep_alive_later(self, name: NodeName, process: Process, saving: Ready) -> None:
        def beat() -> None:
            if self.running.get(name) is process and process.saving is saving:
                if self.now >= process.paused:
                    for to, message in process.raft.keep_alive():
                        self._send(name, to, message)
                self._keep_alive_later(name, process, saving)

        self.at(self.now + self.settings.heartbeat_interval_s, beat)

    def _saved(self, name: NodeName, process: Process) -> None:
        if self.running.get(name) is not process or process.saving is None:
            return
        ready, process.saving = process.saving, None
        for step in self.disks[name].steps(ready):
            step()
        self.witness.on_saved(name)
        self._finish(name, process, ready)

    def _finish(self, name: NodeName, process: Process, ready: Ready) -> None:
        for to, message in ready.messages:
            self._send(name, to, message)
        self._apply(name, process, ready)
        for change in ready.role_changes:
            self._say(f"{name} is {change.role.value} in term {change.term}, leader {change.leader}")
            if change.role is Role.LEADER and self.random.random() < self.faults.ambush:
                self._ambush(name, process)
        self._set_alarm(name, process)
        if process.inbox:
            self._process(name, process)

    def _apply(self, name: NodeName, process: Process, ready: Ready) -> None:
        if process.raft.log.commit != process.commit:
            self.witness.on_committed(name, process.raft, process.commit)
            process.commit = process.raft.log.commit
        if ready.restored is not None:
            self.installed += bool(process.applied)
            process.applied = msgspec.msgpack.decode(ready.restored.state, type=list[Index])
        process.applied += [entry.index for entry in ready.committed]
        if ready.restored is not None or ready.committed:
            self.witness.on_applied(name, process.commit, process.applied)
        for read in ready.reads:
            floor = process.reads.pop(read.number)
            if read.index is not None:
                self.answered += 1
                self.witness.on_read(name, floor, read.index)
        if ready.fetch is not None and not process.fetching:
            self._fetch(name, process, ready.fetch)
        snapshot = process.raft.log.snapshot
        if process.commit - (0 if snapshot is None else snapshot.index) >= self.compact_after:
            process.raft.compact(msgspec.msgpack.encode(process.applied), keep=self.compact_after // 2)
            self._give(name, lambda _process, _now: None)

    def _fetch(self, name: NodeName, process: Process, fetch: Fetch) -> None:
        """Carry a snapshot over the mesh: it may be lost, or come when it is no news any more."""
        process.fetching = True
        source = self.running.get(fetch.leader)
        cut = {(name, fetch.leader), (fetch.leader, name)} & self.cuts
        lost = cut or self.random.random() < self.faults.loss or source is None
        content = None if source is None or source.raft.log.snapshot is None else source.raft.log.snapshot

        def arrive() -> None:
            process.fetching = False
            if not lost and content is not None:
                snapshot = decode_snapshot(encode_snapshot(content))
                self._give(name, lambda process, now: process.raft.install(fetch.leader, snapshot, now))

        self.at(self.now + self.random.uniform(0.1, 1.0) * self.faults.mesh, arrive)

    def _set_alarm(self, name: NodeName, process: Process) -> None:
        # A microsecond late, so that a rounded clock is never just before the deadline.
        due = max(self.now, process.raft.next_deadline - process.offset) + 1e-6

        def ring() -> None:
            if process.alarm == due:
                process.alarm = math.inf
            self._process(name, process)

        if due < process.alarm:
            process.alarm = due
            self.at(due, ring)

    def _ambush(self, name: NodeName, process: Process) -> None:
        def propose() -> None:
            # Large ones, so that a new leader's own entry needs a message after those of former terms.
            data = self.random.randbytes(4) + bytes(self.random.choice([0, 1000, 1020]))
            self.ask(name, lambda raft, now: raft.propose(data, now))

        def crash() -> None:
            if self.running.get(name) is process and self.faults.ambush > 0:
                self.crash(name)

        window = 2 * self.faults.delay + 3 * self.faults.disk
        for _ in range(self.random.randint(0, 6)):
            self.at(self.now + self.random.uniform(0, window), propose)
        self.at(self.now + self.random.uniform(0, 1.5) * window, crash)

    # --- the network --------------------------------------------------------------------------------------------------

    def _send(self, source: NodeName, target: NodeName, message: Message) -> None:
        self.witness.on_sent(source, target, message)
        content = encode(message)
        require(len(content) <= MESSAGE_LIMIT, f"a message of {len(content)} bytes does not fit a datagram")
        self.sent += 1
        copies = 2 if self.random.random() < self.faults.duplication else 1
        for _ in range(copies):
            if self.random.random() < self.faults.loss or (source, target) in self.cuts:
                continue
            delay = self.random.uniform(0.1, 1.0) * self.faults.delay
            if self.random.random() < self.faults.late:
                delay += self.random.expovariate(1.0)
            self.at(self.now + delay, lambda: self._deliver(source, target, content))

    def _deliver(self, source: NodeName, target: NodeName, content: bytes) -> None:
        message = decode(content)

        def take(process: Process, now: Monotonic) -> None:
            try:
                process.raft.step(source, message, now)
            except RemoteError as error:
                raise AssertionError(f"{target} refuses {message} of {source}: {error}") from error

        self._give(target, take)

    def _say(self, what: str) -> None:
        self.trace.append(f"{self.now:9.4f}  {what}")
