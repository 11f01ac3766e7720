"""What must hold at every moment of every history (paper, figure 3), checked by a witness who sees all nodes."""

from collections.abc import Mapping, Sequence

from appliance.consensus.core import Raft
from appliance.consensus.membership import Membership, membership_of
from appliance.consensus.messages import Entry, HardState, Index, Message, RequestVoteReply
from appliance.consensus.ready import Ready, Role
from appliance.words.ids import NodeName, Term
from tests.simulation.consensus.disk import Disk


class ViolationError(AssertionError):
    """An invariant was broken."""


class Witness:
    """Remembers all history, and raises ViolationError as soon as it contradicts itself."""

    def __init__(self, disks: Mapping[NodeName, Disk], begins_with: Membership) -> None:
        self.disks = disks
        self.committed: list[Entry] = []
        self.membership = begins_with
        """The latest committed one."""
        self._membership_upto: list[Membership] = [begins_with]
        self._committed_by: list[Membership] = []
        self._seen_committed_in: list[Term] = []
        self._fresh: list[Index] = []
        self._fresh_upto: list[int] = [0]
        self._done: dict[str, int] = {}
        self._leaders: dict[Term, NodeName] = {}
        self._votes: dict[tuple[Term, NodeName], NodeName | None] = {}
        self._said: dict[NodeName, Term] = {}
        self._entries: dict[tuple[Index, Term], tuple[Term, Entry]] = {}
        self._durable: dict[NodeName, HardState] = {}

    def on_stepped(self, node: NodeName, raft: Raft, ready: Ready, disk: Disk) -> None:
        """Check a core right after it took in something. ``disk`` is as it was before."""
        won = [change.term for change in ready.role_changes if change.role is Role.LEADER]
        for term in won:
            first = self._leaders.setdefault(term, node)
            require(first == node, f"election safety: {first} and {node} both lead term {term}")
        if ready.compaction is not None:
            previous, fresh = ready.compaction.start_term, ready.compaction.entries
        else:
            kept = disk.entries if ready.truncate_from is None else disk.entries[: ready.truncate_from - disk.start - 1]
            previous, fresh = kept[-1].term if kept else disk.start_term, ready.entries
        for entry in fresh:
            known = self._entries.setdefault((entry.index, entry.term), (previous, entry))
            require(known == (previous, entry), f"log matching: two entries {entry.index} in term {entry.term}")
            previous = entry.term
        if raft.role is Role.LEADER and raft.term in won:  # else it was over again in the same batch of messages
            self._check_complete(node, raft)

    def _check_complete(self, node: NodeName, raft: Raft) -> None:
        """Leader completeness (5.4): what was committed before a leader's term is in its log."""
        log = raft.log
        covered = 0 if log.snapshot is None else log.snapshot.index
        for entry, seen_in in zip(self.committed[covered:], self._seen_committed_in[covered:], strict=True):
            has = log.term_at(entry.index) == entry.term
            require(has or raft.term <= seen_in, f"leader completeness: {node} lacks entry {entry.index}")

    def on_saved(self, node: NodeName) -> None:
        """Check a disk after a write, whole or cut short."""
        disk, before = self.disks[node], self._durable.get(node, HardState())
        now = disk.state
        require(now.term >= before.term, f"{node}: the durable term fell")
        if now.term == before.term and before.voted_for is not None:
            require(now.voted_for == before.voted_for, f"{node}: the durable vote of term {now.term} changed")
        require(now.commit >= before.commit, f"{node}: the durable commit fell")
        kept = disk.kept
        require(now.commit <= kept.start + len(kept.entries), f"{node}: the durable commit passes the durable log")
        require(disk.end[0] <= now.term, f"{node}: the log passes the durable term")
        covered = 0 if disk.snapshot is None else disk.snapshot.index
        if disk.snapshot is not None:
            right = disk.snapshot.membership == self._membership_upto[covered]
            require(right, f"{node}: the snapshot's members are not those of entry {covered}")
        require(disk.start <= covered, f"{node}: the log begins after entry {disk.start}, and no snapshot covers that")
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

    def on_committed(self, node: NodeName, raft: Raft, before: Index) -> None:
        """Check what a node holds to be committed, beyond what it did before (state machine safety)."""
        log = raft.log
        for entry in log.entries(max(before, log.start) + 1, log.commit):
            if entry.index == len(self.committed) + 1:
                self._add(entry, raft)
            require(self.committed[entry.index - 1] == entry, f"state machine safety: {node} differs at {entry.index}")
        require(log.commit <= len(self.committed), f"{node} has entry {log.commit} from a snapshot of what never was")

    def on_applied(self, node: NodeName, commit: Index, applied: Sequence[Index]) -> None:
        """Check all that a node has applied: each index once, in order, equal everywhere; each request once."""
        expected = self._fresh[: self._fresh_upto[commit]]
        require(list(applied) == expected, f"{node} has applied {applied} up to entry {commit}, and not {expected}")

    def on_read(self, node: NodeName, floor: Index, index: Index) -> None:
        """Check a read: it sees all that anybody held to be committed when it was asked (thesis, 6.4)."""
        require(index >= floor, f"{node} reads as of entry {index}, though {floor} was committed before")

    def _add(self, entry: Entry, raft: Raft) -> None:
        # By which membership, only its leader knows: it may be one that is not committed yet, on its disk alone.
        known = [self.membership, raft.log.membership, *(disk.membership for disk in self.disks.values())]
        by = next((each for each in known if each.voters and self._on_majority(entry, each)), self.membership)
        self._committed_by.append(by)
        self._require_majority(entry, by)
        self._require_safe(entry)
        if entry.kind == "members":
            self.membership = membership_of(entry)
        self.committed.append(entry)
        self._membership_upto.append(self.membership)
        self._seen_committed_in.append(raft.term)
        request = entry.request
        if request is None or request.number > self._done.get(request.client, -1):
            self._fresh.append(entry.index)
        if request is not None:
            self._done[request.client] = max(request.number, self._done.get(request.client, -1))
        self._fresh_upto.append(len(self._fresh))

    def require_committed_kept(self) -> None:
        """Check that every committed entry is durable still, on a majority of those by whom it was committed."""
        for entry, membership in zip(self.committed, self._committed_by, strict=True):
            self._require_majority(entry, membership)

    def _on_majority(self, entry: Entry, membership: Membership) -> bool:
        holders = [name for name in membership.voters if self.disks[name].holds(entry)]
        return _is_majority(len(holders), membership)

    def _require_majority(self, entry: Entry, membership: Membership) -> None:
        enough = self._on_majority(entry, membership)
        require(enough, f"entry {entry.index} of term {entry.term} is committed, but not durable on a majority")

    def _require_safe(self, entry: Entry) -> None:
        """Check that no node which lacks a committed entry could be elected, now or later (figure 8; 5.4.1).

        An entry of a former term can be on a majority, and be overwritten all the same. Each node counts the votes of
        the membership that it knows.
        """
        ends = {name: disk.end for name, disk in self.disks.items()}
        for name, disk in self.disks.items():
            voters = disk.membership.voters
            granted = sum(1 for voter in voters if ends[name] >= ends[voter])
            safe = disk.holds(entry) or not _is_majority(granted, disk.membership)
            require(safe, f"entry {entry.index} of term {entry.term} is committed, but {name} can win without it")


def _is_majority(count: int, membership: Membership) -> bool:
    """The witness counts for itself, lest it should be wrong together with those that it watches."""
    return 2 * count > len(membership.voters)


def require(holds: bool, otherwise: str) -> None:
    """Raise ViolationError with a sentence unless a condition holds."""
    if not holds:
        raise ViolationError(otherwise)
