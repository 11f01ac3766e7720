"""The log in memory: what it holds, what is committed, and what of it is still to be made durable."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from appliance.consensus.ledger import Ledger
from appliance.consensus.membership import Membership, membership_of
from appliance.consensus.messages import Entry, Index, Request
from appliance.consensus.snapshot import Compaction, Kept, Snapshot
from appliance.words.ids import Term


class Log:
    """Entries without gaps after ``start``, of which those up to ``commit`` stand for ever.

    Args:
        kept: what was durable, reconciled.
        commit: an index that was committed.
        bootstrap: the membership while neither a snapshot nor an entry holds one.

    Attributes:
        start: the last entry that is left out here; 0 if none is.
        snapshot: the newest one; covers at least all up to ``start``.

    Raises ValueError on entries that are no log, and on an attempt to take back what is committed.
    """

    def __init__(self, kept: Kept, commit: Index, bootstrap: Membership) -> None:
        self.start, self._start_term = kept.start, kept.start_term
        self.snapshot = kept.snapshot
        self._entries: list[Entry] = []
        self._truncate_from: Index | None = None
        self._compacted = False
        self._fresh: list[Entry] = []
        self._restored: Snapshot | None = None
        self._begin(kept.snapshot, bootstrap)
        self.append(kept.entries)
        self._drained = self.last_index
        if commit > self.last_index:
            raise ValueError(f"entry {commit} is committed, but the log ends at {self.last_index}")
        self.advance(commit)

    def _begin(self, snapshot: Snapshot | None, bootstrap: Membership) -> None:
        """Take a snapshot's word for all that it covers."""
        self._restored = snapshot
        self._fresh = []
        self._ledger = Ledger() if snapshot is None else snapshot.ledger
        self.commit: Index = 0 if snapshot is None else snapshot.index
        self._memberships = [(self.commit, bootstrap if snapshot is None else snapshot.membership)]

    # --- what it holds ------------------------------------------------------------------------------------------------

    @property
    def last_index(self) -> Index:
        return self.start + len(self._entries)

    @property
    def last_term(self) -> Term:
        return self._entries[-1].term if self._entries else self._start_term

    def term_at(self, index: Index) -> Term | None:
        """Return the term of the entry there; None after the last, and for what is left out before ``start``."""
        if index == self.start:
            return self._start_term
        return self._entries[index - self.start - 1].term if self.start < index <= self.last_index else None

    def entries(self, first: Index, last: Index) -> Sequence[Entry]:
        """Return the entries from ``first`` (after ``start``) to ``last``, both included, as far as there are any."""
        return self._entries[first - self.start - 1 : last - self.start]

    def last_up_to(self, index: Index, term: Term) -> Index:
        """Return the last index, at most ``index``, whose term is at most ``term`` (terms never fall along a log).

        What is left out before ``start`` is committed, and so equal in every log that can lead.
        """
        return min(index, self.start + bisect_right(self._entries, term, key=lambda entry: entry.term))

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Say whether a log that ends so is at least as up-to-date as this one (paper, 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    @property
    def membership(self) -> Membership:
        """The latest in the log, committed or not (thesis, 4.1)."""
        return self._memberships[-1][1]

    @property
    def settled_membership(self) -> Membership:
        """The latest that is committed."""
        return next(membership for index, membership in reversed(self._memberships) if index <= self.commit)

    @property
    def membership_index(self) -> Index:
        """Where the latest membership stands; 0 if it is the one that the cluster begins with."""
        return self._memberships[-1][0]

    @property
    def ledger(self) -> Ledger:
        """What the committed entries say of consensus itself."""
        return self._ledger

    def find(self, request: Request) -> Index | None:
        """Return where a request was done, or else where it waits to be committed."""
        waiting = self.entries(self.commit + 1, self.last_index)
        return self._ledger.done_at(request) or next((e.index for e in waiting if e.request == request), None)

    # --- how it changes -----------------------------------------------------------------------------------------------

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries at the end."""
        for entry in entries:
            if entry.index != self.last_index + 1 or entry.term < self.last_term:
                raise ValueError(f"entry {entry.index} of term {entry.term} does not follow {self.last_index}")
            self._entries.append(entry)
            # What a snapshot covers is in the snapshot's membership.
            if entry.kind == "members" and entry.index > self._memberships[-1][0]:
                self._memberships.append((entry.index, membership_of(entry)))

    def merge(self, previous: Index, entries: Sequence[Entry]) -> Index | None:
        """Take in a leader's entries that follow ``previous``, where the logs agree; return how far they agree now.

        Only an entry that differs is replaced, with all that follow: a late, shorter message removes nothing (paper,
        figure 2, AppendEntries receiver, rule 3). None, and nothing changed, if a committed entry would be replaced.
        """
        for position, entry in enumerate(entries):
            if entry.index > self.start and self.term_at(entry.index) != entry.term:
                if entry.index <= self.commit:
                    return None
                self.truncate(entry.index)
                self.append(entries[position:])
                break
        return previous + len(entries)

    def truncate(self, index: Index) -> None:
        """Remove the entries from ``index`` on, if there are any."""
        if index <= self.commit:
            raise ValueError(f"entry {index} is committed (up to {self.commit}) and can't be truncated")
        if index > self.last_index:
            return
        del self._entries[index - self.start - 1 :]
        while self._memberships[-1][0] >= index:
            self._memberships.pop()
        if index <= self._drained:
            self._drained = index - 1
            self._truncate_from = min(index, self._truncate_from or index)

    def advance(self, commit: Index) -> None:
        """Commit the entries up to an index; one that is passed already changes nothing."""
        if commit <= self.commit:
            return
        self._fresh += [entry for entry in self.entries(self.commit + 1, commit) if self._ledger.count(entry)]
        self.commit = commit

    def compact(self, state: bytes, keep: int) -> None:
        """Put a snapshot in the place of the committed entries, but for the last ``keep`` of them.

        Raises ValueError if the caller can't have applied all that is committed.
        """
        term = self.term_at(self.commit)
        if self._fresh or self._restored is not None or not term:
            raise ValueError("a snapshot needs committed entries, and all of them applied")
        ledger = self._ledger
        self.snapshot = Snapshot(
            index=self.commit,
            term=term,
            membership=self.settled_membership,
            turns=dict(ledger.turns),
            last_leader=ledger.last_leader,
            done=dict(ledger.done),
            state=state,
        )
        self._start_at(max(self.start, self.commit - keep))

    def install(self, snapshot: Snapshot) -> None:
        """Take a leader's snapshot in the place of this log, but for entries that follow it (paper, figure 13)."""
        if snapshot.index <= self.commit:
            return
        follows = self.term_at(snapshot.index) == snapshot.term
        later = list(self.entries(snapshot.index + 1, self.last_index)) if follows else []
        self.snapshot = snapshot
        self._start_at(snapshot.index, snapshot.term)
        self._entries = []
        self._begin(snapshot, snapshot.membership)
        self.append(later)

    def _start_at(self, start: Index, term: Term | None = None) -> None:
        """Leave out all entries up to ``start``, on disk too."""
        term = self.term_at(start) if term is None else term
        assert term is not None  # noqa: S101 - the caller named an entry that is here, or its term
        self._entries = self._entries[max(0, start - self.start) :]
        self.start, self._start_term = start, term
        self._compacted = True

    # --- what its owner must do ---------------------------------------------------------------------------------------

    def drain(self) -> tuple[Compaction | None, Index | None, tuple[Entry, ...]]:
        """Return what is not durable yet: a log that begins anew, or from where to truncate and what to append then."""
        truncate_from, self._truncate_from = self._truncate_from, None
        fresh = tuple(self._entries[self._drained - self.start :]) if not self._compacted else ()
        self._drained = self.last_index
        if not self._compacted:
            return None, truncate_from, fresh
        self._compacted = False
        assert self.snapshot is not None  # noqa: S101 - only a snapshot lets a log begin anew
        return Compaction(self.snapshot, self.start, self._start_term, tuple(self._entries)), None, ()

    def drain_committed(self) -> tuple[Snapshot | None, tuple[Entry, ...]]:
        """Return a snapshot that replaces all that was applied, and the committed entries that are to be applied then.

        Each comes once; the repetition of a request that was done never comes.
        """
        restored, self._restored = self._restored, None
        fresh, self._fresh = tuple(self._fresh), []
        return restored, fresh
