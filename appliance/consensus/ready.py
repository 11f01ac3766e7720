"""What the core asks of its caller, and the order in which it must be done."""

import enum
from dataclasses import dataclass

from appliance.consensus.log import Log
from appliance.consensus.membership import Membership
from appliance.consensus.messages import Entry, HardState, Index, Message
from appliance.consensus.reads import Read
from appliance.consensus.snapshot import Compaction, Snapshot
from appliance.words.ids import NodeName, Term


class Role(enum.Enum):
    """Paper, figure 4. A candidate that still asks for pre-votes is a candidate too."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True)
class RoleChange:
    """This node's role, its term, or the leader it knows is now another."""

    role: Role
    term: Term
    leader: NodeName | None


@dataclass(frozen=True, slots=True)
class Fetch:
    """A leader offers a snapshot; obtain one of at least this index from it, and give it to ``Raft.install``."""

    leader: NodeName
    index: Index


@dataclass(frozen=True, slots=True)
class Ready:
    """What is to be done since the last ``Ready``. Carry it out in this order, and wholly before the next ``ready()``:

    1. make durable (fsync): ``hard_state``'s term and vote; then, of a ``compaction``, the snapshot, then (one atomic
       replace) the log that begins anew; else truncate the log from ``truncate_from``, and append ``entries``; then
       ``hard_state``'s commit. A crash in between may leave any beginning of that sequence
       (``snapshot.Kept.reconciled``). Nothing but ``Raft.keep_alive`` may be sent meanwhile;
    2. then send ``messages``: a vote or an acknowledgement that could be forgotten would break every promise of Raft
       (paper, figure 2: "updated on stable storage before responding");
    3. then tell ``role_changes``, and apply: first ``restored``, whose state replaces all that was applied before, then
       ``committed``. The entry that lets a leader act must find it a leader;
    4. then answer ``reads``: all that a read must see is applied.

    If 1 fails, none of the rest may happen: the node must stop, and start again from what is durable.

    Attributes:
        hard_state: None if it need not be written.
        compaction: None unless the log begins anew; it then holds the whole log, and the next two hold nothing.
        truncate_from: remove this entry and all after it, before appending; None if nothing is to be removed.
        committed: in order, each once a process, without repeated requests; the first ``Ready`` brings all that is
            known to be committed.
        members_changed: ``Log.membership`` or ``Log.settled_membership`` is another one; at first always.
        fetch: None unless a snapshot is to be obtained; said again with each offer until one is installed.
    """

    hard_state: HardState | None
    compaction: Compaction | None
    truncate_from: Index | None
    entries: tuple[Entry, ...]
    messages: tuple[tuple[NodeName, Message], ...]
    role_changes: tuple[RoleChange, ...]
    restored: Snapshot | None
    committed: tuple[Entry, ...]
    members_changed: bool
    reads: tuple[Read, ...]
    fetch: Fetch | None

    @property
    def must_save(self) -> bool:
        """Whether there is anything to make durable."""
        changed = (self.hard_state, self.compaction, self.truncate_from)
        return any(change is not None for change in changed) or bool(self.entries)


class Outbox:
    """What a core has to say and has not handed out yet."""

    def __init__(self, saved: HardState) -> None:
        """``saved``: what is durable now."""
        self.reads: list[Read] = []
        self.fetch: Fetch | None = None
        self._messages: list[tuple[NodeName, Message]] = []
        self._role_changes: list[RoleChange] = []
        self._told = RoleChange(Role.FOLLOWER, saved.term, None)
        self._told_members: tuple[Membership, Membership] | None = None
        self._saved = saved
        self.carried_out: Index = 0
        """What was committed when the ``Ready`` before the last was handed out: that one is carried out by now."""
        self._handed_out: Index = 0

    def send(self, to: NodeName, message: Message) -> None:
        """Add a message."""
        self._messages.append((to, message))

    def note(self, change: RoleChange) -> None:
        """Add a change of role, term or leader, if it is one."""
        if change != self._told:
            self._told = change
            self._role_changes.append(change)

    def drain(self, log: Log, state: HardState) -> Ready:
        """Hand everything out, with what is new in the log and in ``state``."""
        compaction, truncate_from, entries = log.drain()
        restored, committed = log.drain_committed()
        promised = (state.term, state.voted_for) != (self._saved.term, self._saved.voted_for)
        # A commit alone is worth no fsync: a leader finds it again (5.4.2). It rides along with other writes.
        written = bool(entries) or truncate_from is not None or compaction is not None
        must_write = promised or (written and state != self._saved)
        members = log.membership, log.settled_membership
        ready = Ready(
            hard_state=state if must_write else None,
            compaction=compaction,
            truncate_from=truncate_from,
            entries=entries,
            messages=tuple(self._messages),
            role_changes=tuple(self._role_changes),
            restored=restored,
            committed=committed,
            members_changed=members != self._told_members,
            reads=tuple(self.reads),
            fetch=self.fetch,
        )
        self._saved = state if must_write else self._saved
        self.carried_out, self._handed_out = self._handed_out, log.commit
        self._told_members = members
        self._messages, self._role_changes, self.reads, self.fetch = [], [], [], None
        return ready
