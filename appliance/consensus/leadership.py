"""The leader's part: what it knows of each follower, replication, the majority it must keep, and handing over."""

from collections.abc import Callable
from dataclasses import dataclass

from appliance.consensus.log import Log
from appliance.consensus.membership import Membership, encode_membership
from appliance.consensus.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entry,
    Index,
    Kind,
    Message,
    Request,
    SnapshotOffer,
    TimeoutNow,
    batch,
)
from appliance.consensus.quorum import Number, reached_by_majority
from appliance.consensus.reads import Read, Reads
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import Monotonic, NodeName, Term
from appliance.words.settings import Consensus

Send = Callable[[NodeName, Message], None]

WINDOW = 64
"""Entries sent ahead of a follower's answers; at most 64 full datagrams, which a socket's default buffer holds."""


@dataclass(slots=True)
class Follower:
    """What the leader knows of one follower (paper, figure 2, "volatile state on leaders").

    Attributes:
        match: the follower's log equals the leader's up to here, durably.
        next: the next entry to send.
        probing: where the logs part is not known yet (or something was lost), so one message goes out at a time.
        heard: when it last answered; None if not in this term.
        match_at_heartbeat: ``match`` when the last heartbeat went out; no progress since then means a loss.
        beat: the last heartbeat that it has echoed.
    """

    next: Index
    match: Index = 0
    probing: bool = True
    heard: Monotonic | None = None
    match_at_heartbeat: Index = 0
    beat: Index = 0


@dataclass(slots=True)
class Handover:
    """A leadership transfer under way (thesis, 3.10).

    Attributes:
        target: None while no live follower is fit (only a resignation waits for one).
        resign: at the deadline the leader steps down; else it gives the transfer up and leads on.
    """

    target: NodeName | None
    deadline: Monotonic
    resign: bool


class Leadership:
    """One term as a leader."""

    def __init__(
        self, *, node: NodeName, term: Term, log: Log, settings: Consensus, send: Send, now: Monotonic
    ) -> None:
        self.since = now
        self.heartbeat_due = now
        self.handover: Handover | None = None
        self.reads = Reads()
        self._node = node
        self._term = term
        self._log = log
        self._settings = settings
        self._send = send
        self._followers: dict[NodeName, Follower] = {}
        self._take_members()

    # --- majorities ---------------------------------------------------------------------------------------------------

    @property
    def quorum_lost_at(self) -> Monotonic:
        """When the leader must step down unless it hears from more followers (CheckQuorum; thesis, 6.2)."""
        heard = self._reached(float("inf"), lambda follower: self.since if follower.heard is None else follower.heard)
        return Monotonic(heard + self._settings.election_timeout_s)

    def _reached(self, own: Number, of: Callable[[Follower], Number]) -> Number:
        """Return the largest number that a majority of the voters has reached.

        The leader counts its own last entry, because nothing that follows from this leaves the node before that entry
        is durable (``Ready``). One that is being removed leads on until that is committed, and does not count itself
        (thesis, 4.2.2).
        """
        voters = self._log.membership.voters
        return reached_by_majority([own if name == self._node else of(self._followers[name]) for name in voters])

    def _live(self, now: Monotonic) -> frozenset[NodeName]:
        """Return the followers that answered within the last two election timeouts."""
        oldest = now - 2 * self._settings.election_timeout_s
        return frozenset(n for n, f in self._followers.items() if f.heard is not None and f.heard >= oldest)

    def _take_members(self) -> None:
        """Send to the log's latest members from now on; to a removed one until that is committed, so that it learns."""
        wanted = (self._log.membership.names | self._log.settled_membership.names) - {self._node}
        for name in wanted - self._followers.keys():
            self._followers[name] = Follower(next=self._log.last_index + 1)
        self._followers = {name: self._followers[name] for name in sorted(wanted)}

    def _caught_up(self, now: Monotonic) -> NodeName | None:
        """Return a live learner that has all that is committed, if there is one: it may vote (thesis, 4.2.1)."""
        live = self._live(now)
        fit = (name for name in self._log.membership.learners if self._followers[name].match >= self._log.commit)
        return next((name for name in fit if name in live), None)

    # --- its own log (paper, 5.4.2; thesis, 4) ------------------------------------------------------------------------

    def propose(self, data: bytes, request: Request | None, now: Monotonic) -> tuple[Index, Term] | None:
        """Append an entry from outside, unless its request is in the log already; say where it stands."""
        if not self._may_append(now):
            return None
        place = None if request is None else self._log.find(request)
        if place is None:
            self.append("data", data, request)
            place = self._log.last_index
        return place, self._log.term_at(place) or self._term

    def _may_append(self, now: Monotonic) -> bool:
        """Say whether something from outside may be appended now."""
        return self.handover is None and now < self.quorum_lost_at

    def append(self, kind: Kind, data: bytes, request: Request | None = None) -> None:
        """Append an entry of this term, and send it to all whose logs are known to fit."""
        self._log.append([Entry(self._log.last_index + 1, self._term, kind, data, request)])
        if kind == "members":
            self._take_members()
        for name, follower in self._followers.items():
            self._fill(name, follower)

    def change(self, membership: Membership, now: Monotonic) -> None:
        """Append another membership, one at a time. Only after this term's first entry is committed.

        That condition mends a hole in the thesis (Ongaro, raft-dev, 10 July 2015): without it two changes of different
        leaders could be under way with majorities that share no node. Raises OperatorError if it can't be now.
        """
        if not self._may_append(now):
            raise OperatorError("this node is handing over, or has lost its majority; ask again, or the next leader")
        if self._log.membership_index > self._log.commit:
            raise OperatorError("another change of the members is under way; ask again when it is done")
        self.append("members", encode_membership(membership))

    def advance(self, now: Monotonic) -> None:
        """Commit what a majority holds, but count only for an entry of this term (figure 8)."""
        log, reached = self._log, self._reached(self._log.last_index, lambda follower: follower.match)
        if reached > log.commit and log.term_at(reached) == self._term:
            log.advance(reached)
            for name, follower in self._followers.items():
                if not follower.probing:  # at once, rather than with the next heartbeat
                    self._append(name, follower)
            self._take_members()
        learner = self._caught_up(now) if self._log.membership.learners else None
        if learner is not None and log.term_at(log.commit) == self._term and log.membership_index <= log.commit:
            self.append("members", encode_membership(log.membership.promoted(learner)))

    # --- replication (paper, 5.3) -------------------------------------------------------------------------------------

    def heartbeat(self, now: Monotonic) -> None:
        """Send to every follower, and again what seems lost."""
        self.heartbeat_due = Monotonic(now + self._settings.heartbeat_interval_s)
        self.reads.send()
        for name, follower in self._followers.items():
            behind = follower.next > follower.match + 1
            if behind and not follower.probing and follower.match == follower.match_at_heartbeat:
                follower.probing = True
                follower.next = follower.match + 1
            follower.match_at_heartbeat = follower.match
            self._append(name, follower)
        if self.handover is not None:
            self._pursue(self.handover, now)

    def prove(self) -> None:
        """Send what lets the followers confirm that this node leads still, if a read asks for that."""
        if self.reads.wanted:
            self.reads.send()
            for name, follower in self._followers.items():
                self._send(name, self._empty(follower, self._log.commit, self.reads.beat))

    def keep_alive(self, commit: Index) -> list[tuple[NodeName, Message]]:
        """Return heartbeats about nothing but what each follower has acknowledged, and a commit that was told."""
        return [(name, self._empty(follower, commit, 0)) for name, follower in self._followers.items()]

    def _empty(self, follower: Follower, commit: Index, beat: Index) -> Message:
        """Return a heartbeat about what the follower has acknowledged, or about what every follower should have."""
        previous = max(follower.match, self._log.start)
        return AppendEntries(self._term, previous, self._log.term_at(previous) or 0, commit, (), beat)

    def on_reply(self, name: NodeName, reply: AppendEntriesReply, now: Monotonic) -> list[Read]:
        """Take in a follower's answer of this term; return the reads that it confirms.

        Raises RemoteError if it can't be true.
        """
        if max(reply.index, reply.hint_index) > self._log.last_index or reply.beat > self.reads.beat:
            raise RemoteError("an answer about what was never sent")
        follower = self._followers.get(name)
        if follower is None:
            return []
        follower.heard = now
        follower.beat = max(follower.beat, reply.beat)
        if reply.accepted:
            follower.match = max(follower.match, reply.index)
            # Less than the probe asks about: the answer to a keep-alive, or to something late; the probe stands.
            if not follower.probing or reply.index >= follower.next - 1:
                follower.next = max(follower.next, follower.match + 1)
                # Who needs a snapshot is offered it with each heartbeat, and no faster.
                follower.probing = follower.next <= self._log.start
                self._fill(name, follower)
        elif reply.index > follower.match and (not follower.probing or reply.index == follower.next - 1):
            # Skip all of the follower's entries that can't be equal (end of 5.3): ours whose term is past its hint's.
            equal = self._log.last_up_to(reply.hint_index, reply.hint_term)
            follower.next = max(follower.match, min(reply.index - 1, equal)) + 1
            follower.probing = True
            self._append(name, follower)
        if self.handover is not None and self.handover.target in {None, name}:
            self._pursue(self.handover, now)
        return self.confirmed()

    def confirmed(self) -> list[Read]:
        """Return the reads that a majority has confirmed by now, each once."""
        return self.reads.answered(self._reached(self.reads.beat, lambda follower: follower.beat))

    def _fill(self, name: NodeName, follower: Follower) -> None:
        while not follower.probing and follower.next <= min(self._log.last_index, follower.match + WINDOW):
            self._append(name, follower)

    def _append(self, name: NodeName, follower: Follower) -> None:
        previous = follower.next - 1
        previous_term = self._log.term_at(previous)
        if previous_term is None:
            follower.probing = True
            self._send(name, SnapshotOffer(self._term, self._log.start, self.reads.beat))
            return
        last = (previous if follower.probing else follower.match) + WINDOW
        entries = batch(self._log.entries(follower.next, last))
        if not follower.probing:
            follower.next += len(entries)
        self._send(name, AppendEntries(self._term, previous, previous_term, self._log.commit, entries, self.reads.beat))

    # --- handing over (thesis, 3.10) ----------------------------------------------------------------------------------

    @property
    def resigning(self) -> bool:
        """Whether this leader steps down in any case."""
        return self.handover is not None and self.handover.resign

    def transfer(self, now: Monotonic, target: NodeName | None) -> bool:
        """Begin a transfer; without a target to the fit follower that has led least. Say whether one began."""
        return self.handover is None and self._hand_over(now, target, resign=False)

    def resign(self, now: Monotonic) -> bool:
        """Begin to resign, unless that has begun; say whether it has."""
        return self.resigning or self._hand_over(now, None, resign=True)

    def _hand_over(self, now: Monotonic, target: NodeName | None, *, resign: bool) -> bool:
        others = self._log.membership.voters.keys() - {self._node}
        if target is not None and target not in others:
            return False
        chosen = target or self._heir(now)
        if not others or (chosen is None and not resign):
            return False
        deadline = Monotonic(now + self._settings.election_timeout_s)
        self.handover = Handover(target=chosen, deadline=deadline, resign=resign)
        self._pursue(self.handover, now)
        return True

    def _pursue(self, handover: Handover, now: Monotonic) -> None:
        """Ask the target to stand, once its log is complete; again with each heartbeat, lest the datagram was lost."""
        if handover.target is None:
            handover.target = self._heir(now)
        if handover.target is not None and self._followers[handover.target].match == self._log.last_index:
            self._send(handover.target, TimeoutNow(self._term))

    def _heir(self, now: Monotonic) -> NodeName | None:
        """Return the live voter with all committed entries that has led least; the first by name of equals."""
        live = self._live(now) & self._log.membership.voters.keys()
        fit = [name for name in live if self._followers[name].match >= self._log.commit]
        turns = self._log.ledger.turns
        return min(fit, key=lambda name: (turns.get(name, 0), name), default=None)
