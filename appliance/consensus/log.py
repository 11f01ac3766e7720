"""The log in memory, and what of it is still to be made durable."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence

from appliance.consensus.messages import Entry, Index
from appliance.words.ids import NodeName, Term


class Log:
    """Entries from index 1, without gaps, of which those up to ``commit`` stand for ever.

    Raises ValueError on entries that are no log, and on an attempt to take back what is committed.
    """

    def __init__(self, entries: Sequence[Entry], commit: Index) -> None:
        self._entries: list[Entry] = []
        self._turns: Counter[NodeName] = Counter()
        self.last_leader: NodeName | None = None
        self.commit: Index = commit
        self._applied: Index = 0
        self._drained: Index = 0
        self._truncate_from: Index | None = None
        self.append(entries)
        if commit > self.last_index:
            raise ValueError(f"entry {commit} is committed, but the log ends at {self.last_index}")
        self._drained = self.last_index

    @property
    def last_index(self) -> Index:
        return len(self._entries)

    @property
    def last_term(self) -> Term:
        return self._entries[-1].term if self._entries else 0

    def term_at(self, index: Index) -> Term | None:
        """Return the term of the entry there: 0 before the first, None after the last."""
        if index == 0:
            return 0
        return self._entries[index - 1].term if index <= len(self._entries) else None

    def entries(self, first: Index, last: Index) -> Sequence[Entry]:
        """Return the entries from ``first`` to ``last``, both included, as far as there are any."""
        return self._entries[first - 1 : last]

    def last_up_to(self, index: Index, term: Term) -> Index:
        """Return the last index, at most ``index``, whose term is at most ``term`` (terms never fall along a log)."""
        return min(index, bisect_right(self._entries, term, key=lambda entry: entry.term))

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Say whether a log that ends so is at least as up-to-date as this one (paper, 5.4.1)."""
        return (last_term, last_index) >= (self.last_term, self.last_index)

    def append(self, entries: Iterable[Entry]) -> None:
        """Add entries at the end."""
        for entry in entries:
            if entry.index != self.last_index + 1 or entry.term < self.last_term:
                raise ValueError(f"entry {entry.index} of term {entry.term} does not follow {self.last_index}")
            self._entries.append(entry)
            if entry.kind == "no-op":
                self.last_leader = _leader_of(entry)
                self._turns[self.last_leader] += 1

    def truncate(self, index: Index) -> None:
        """Remove the entries from ``index`` on, if there are any."""
        if index <= self.commit:
            raise ValueError(f"entry {index} is committed (up to {self.commit}) and can't be truncated")
        if index > self.last_index:
            return
        for entry in self._entries[index - 1 :]:
            if entry.kind == "no-op":
                self._turns[_leader_of(entry)] -= 1
        del self._entries[index - 1 :]
        self.last_leader = next((_leader_of(e) for e in reversed(self._entries) if e.kind == "no-op"), None)
        if index <= self._drained:
            self._drained = index - 1
            self._truncate_from = min(index, self._truncate_from or index)

    def turns(self, node: NodeName) -> int:
        """Return how often a node has led, by the no-ops in this log."""
        return self._turns[node]

    def drain(self) -> tuple[Index | None, tuple[Entry, ...]]:
        """Return what is not durable yet: from where to truncate first, and the entries to append then."""
        truncate_from, self._truncate_from = self._truncate_from, None
        fresh = tuple(self._entries[self._drained :])
        self._drained = self.last_index
        return truncate_from, fresh

    def drain_committed(self) -> tuple[Entry, ...]:
        """Return the committed entries that were not returned before, in order."""
        fresh = tuple(self._entries[self._applied : self.commit])
        self._applied = self.commit
        return fresh


def _leader_of(no_op: Entry) -> NodeName:
    return no_op.data.decode("utf-8", errors="replace")
