"""A disk in a virtual world: what a node has made durable."""

from collections.abc import Callable, Iterator

from appliance.consensus.membership import Membership, membership_of
from appliance.consensus.messages import Entry, HardState, Index
from appliance.consensus.ready import Ready
from appliance.consensus.snapshot import Kept, Snapshot
from appliance.words.ids import Term


class Disk:
    """What one node has made durable."""

    def __init__(self, bootstrap: Membership) -> None:
        self.bootstrap = bootstrap
        self.state = HardState()
        self.entries: list[Entry] = []
        self.start: Index = 0
        self.start_term: Term = 0
        self.snapshot: Snapshot | None = None
        self._membership: Membership | None = None

    @property
    def kept(self) -> Kept:
        """What a node would start from."""
        return Kept(self.entries, self.start, self.start_term, self.snapshot).reconciled()

    def open(self) -> Kept:
        """Put right what a crash left, durably, and return what a node starts from; as ``ConsensusLog`` does."""
        kept = self.kept
        self._keep(start=kept.start, start_term=kept.start_term, entries=list(kept.entries))
        return kept

    def steps(self, ready: Ready) -> Iterator[Callable[[], None]]:
        """Return what saving a ``Ready`` does, in its order; a crash leaves any beginning of it."""
        state, compaction, truncate_from = ready.hard_state, ready.compaction, ready.truncate_from
        if state is not None:
            promise = HardState(state.term, state.voted_for, self.state.commit)
            yield lambda: self._keep(state=promise)
        if compaction is not None:
            yield lambda: self._keep(snapshot=compaction.snapshot)
            entries = list(compaction.entries)
            yield lambda: self._keep(start=compaction.start, start_term=compaction.start_term, entries=entries)
        if truncate_from is not None:
            yield lambda: self._keep(entries=self.entries[: truncate_from - self.start - 1])
        for entry in ready.entries:
            yield lambda entry=entry: self._keep(entries=[*self.entries, entry])  # type: ignore[misc]
        if state is not None:
            yield lambda: self._keep(state=state)

    def _keep(self, **changes: object) -> None:
        """Make one change durable."""
        for name, value in changes.items():
            setattr(self, name, value)
        self._membership = None

    def holds(self, entry: Entry) -> bool:
        """Say whether a committed entry would come back: in the log, or in what a snapshot amounts to."""
        if self.snapshot is not None and entry.index <= self.snapshot.index:
            return True
        kept = self.kept
        place = entry.index - kept.start - 1
        return 0 <= place < len(kept.entries) and kept.entries[place] == entry

    @property
    def end(self) -> tuple[Term, Index]:
        """What says how up-to-date the log is (5.4.1)."""
        kept = self.kept
        return (kept.entries[-1].term if kept.entries else kept.start_term), kept.start + len(kept.entries)

    @property
    def membership(self) -> Membership:
        """The latest that a node would start with."""
        if self._membership is None:
            covered, latest = 0, self.bootstrap
            if self.snapshot is not None:
                covered, latest = self.snapshot.index, self.snapshot.membership
            changes = (e for e in reversed(self.kept.entries) if e.kind == "members" and e.index > covered)
            change = next(changes, None)
            self._membership = latest if change is None else membership_of(change)
        return self._membership
