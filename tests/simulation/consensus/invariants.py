"""What must hold at every moment of every history (paper, figure 3), checked by a witness who sees all nodes."""

from collections.abc import Mapping, Sequence

from appliance.consensus.core import Raft
from appliance.consensus.messages import Entry, HardState, Index, Message, RequestVoteReply
from appliance.consensus.quorum import majority
from appliance.consensus.ready import Ready, Role
from appliance.words.ids import NodeName, Term


class Disk:
    """What one node has made durable."""

    def __init__(self) -> None:
        self.state = HardState()
        self.entries: list[Entry] = []

    def holds(self, entry: Entry) -> bool:
        return len(self.entries) >= entry.index and self.entries[entry.index - 1] == entry

    @property
    def end(self) -> tuple[Term, Index]:
        """What says how up-to-date the log is (5.4.1)."""
        return (self.entries[-1].term if self.entries else 0), len(self.entries)


class ViolationError(AssertionError):
    """An invariant was broken."""


class Witness:
    """Remembers all history, and raises ViolationError as soon as it contradicts itself."""

    def __init__(self, disks: Mapping[NodeName, Disk]) -> None:
        self.disks = disks
        self.committed: list[Entry] = []
        self._seen_committed_in: list[Term] = []
        self._leaders: dict[Term, NodeName] = {}
        self._votes: dict[tuple[Term, NodeName], NodeName | None] = {}
        self._said: dict[NodeName, Term] = {}
        self._entries: dict[tuple[Index, Term], tuple[Term, Entry]] = {}
        self._durable: dict[NodeName, HardState] = {}

    def on_stepped(self, node: NodeName, raft: Raft, ready: Ready, log: Sequence[Entry]) -> None:
        """Check a core right after it took in something. ``log`` is what its log was before, durably."""
        won = [change.term for change in ready.role_changes if change.role is Role.LEADER]
        for term in won:
            first = self._leaders.setdefault(term, node)
            require(first == node, f"election safety: {first} and {node} both lead term {term}")
        kept = list(log[: ready.truncate_from - 1]) if ready.truncate_from is not None else list(log)
        previous = kept[-1].term if kept else 0
        for entry in ready.entries:
            known = self._entries.setdefault((entry.index, entry.term), (previous, entry))
            require(known == (previous, entry), f"log matching: two entries {entry.index} in term {entry.term}")
            previous = entry.term
        if raft.role is Role.LEADER and raft.term in won:  # else it was over again in the same batch of messages
            whole = [*kept, *ready.entries]
            for entry, seen_in in zip(self.committed, self._seen_committed_in, strict=True):
                has = len(whole) >= entry.index and whole[entry.index - 1] == entry
                require(has or raft.term <= seen_in, f"leader completeness: {node} lacks entry {entry.index}")

    def on_saved(self, node: NodeName) -> None:
        """Check a disk after a write, whole or cut short."""
        disk, before = self.disks[node], self._durable.get(node, HardState())
        now = disk.state
        require(now.term >= before.term, f"{node}: the durable term fell")
        if now.term == before.term and before.voted_for is not None:
            require(now.voted_for == before.voted_for, f"{node}: the durable vote of term {now.term} changed")
        require(now.commit >= before.commit, f"{node}: the durable commit fell")
        require(now.commit <= len(disk.entries), f"{node}: the durable commit passes the durable log")
        require(not disk.entries or disk.entries[-1].term <= now.term, f"{node}: the log passes the durable term")
        self._durable[node] = now

    def on_sent(self, node: NodeName, to: NodeName, message: Message) -> None:
        """Check what a node tells another: a vote once given stands."""
        if isinstance(message, RequestVoteReply):
            if message.granted and not message.pre_vote:
                first = self._votes.setdefault((message.term, node), to)
                require(first == to, f"{node} votes for {first} and for {to} in term {message.term}")
            if message.pre_vote:
                return
        if not hasattr(message, "term") or getattr(message, "pre_vote", False):
            return
        require(message.term >= self._said.get(node, 0), f"{node}: its term went back to {message.term}")
        self._said[node] = message.term

    def on_started(self, node: NodeName, raft: Raft) -> None:
        """Check a node that came back: nothing that it had said is forgotten."""
        require(raft.term >= self._said.get(node, 0), f"{node}: restarted in term {raft.term}, which is past")

    def on_applied(self, node: NodeName, term: Term, applied: Index, entries: Sequence[Entry]) -> None:
        """Check entries that a node applies, having applied those up to ``applied`` before (state machine safety)."""
        for index, entry in enumerate(entries, applied + 1):
            require(entry.index == index, f"{node} applies entry {entry.index} in the place of {index}")
            if index > len(self.committed):
                self._require_majority(entry)
                self._require_safe(entry)
                self.committed.append(entry)
                self._seen_committed_in.append(term)
            require(self.committed[index - 1] == entry, f"state machine safety: {node} differs at {index}")

    def require_committed_kept(self) -> None:
        """Check that every committed entry is durable on a majority still."""
        for entry in self.committed:
            self._require_majority(entry)

    def _require_majority(self, entry: Entry) -> None:
        holders = [name for name, disk in self.disks.items() if disk.holds(entry)]
        enough = len(holders) >= majority(len(self.disks))
        require(enough, f"entry {entry.index} of term {entry.term} is committed, but durable only on {holders}")

    def _require_safe(self, entry: Entry) -> None:
        """Check that no node which lacks a committed entry could be elected, now or later (figure 8; 5.4.1).

        An entry of a former term can be on a majority, and be overwritten all the same.
        """
        ends = [disk.end for disk in self.disks.values()]
        for name, disk in self.disks.items():
            voters = sum(1 for end in ends if disk.end >= end)
            safe = disk.holds(entry) or voters < majority(len(self.disks))
            require(safe, f"entry {entry.index} of term {entry.term} is committed, but {name} can win without it")


def require(holds: bool, otherwise: str) -> None:
    """Raise ViolationError with a sentence unless a condition holds."""
    if not holds:
        raise ViolationError(otherwise)
