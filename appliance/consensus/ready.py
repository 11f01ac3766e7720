"""What the core asks of its caller, and the order in which it must be done."""

import enum
from dataclasses import dataclass

from appliance.consensus.messages import Entry, HardState, Index, Message
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
class Ready:
    """What is to be done since the last ``Ready``. Carry it out in this order, and wholly before the next ``ready()``:

    1. make durable (fsync): ``hard_state``'s term and vote, then truncate the log from ``truncate_from``, append
       ``entries``, then ``hard_state``'s commit. A crash in between may leave any beginning of that sequence. Nothing
       but ``Raft.keep_alive`` may be sent meanwhile;
    2. then send ``messages``: a vote or an acknowledgement that could be forgotten would break every promise of Raft
       (paper, figure 2: "updated on stable storage before responding");
    3. then tell ``role_changes``, and apply ``committed``: the entry that lets a leader act must find it a leader.

    If 1 fails, none of the rest may happen: the node must stop, and start again from what is durable.

    Attributes:
        hard_state: None if it need not be written.
        truncate_from: remove this entry and all after it, before appending; None if nothing is to be removed.
        committed: in order, each once a process; the first ``Ready`` brings all that is known to be committed.
    """

    hard_state: HardState | None
    truncate_from: Index | None
    entries: tuple[Entry, ...]
    messages: tuple[tuple[NodeName, Message], ...]
    committed: tuple[Entry, ...]
    role_changes: tuple[RoleChange, ...]

    @property
    def must_save(self) -> bool:
        """Whether there is anything to make durable."""
        return self.hard_state is not None or self.truncate_from is not None or bool(self.entries)
