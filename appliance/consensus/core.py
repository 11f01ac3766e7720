"""Raft: messages and time in; a ``Ready`` with what to make durable, to send and to apply out.

Safety rests on the caller carrying a ``Ready`` out in its order. See the package for the papers that are cited.
"""

import random

from appliance.consensus.candidacy import Candidacy, Favourite
from appliance.consensus.following import append
from appliance.consensus.leadership import Leadership
from appliance.consensus.log import Log
from appliance.consensus.membership import Membership, Place, check_entries, encode_membership
from appliance.consensus.messages import (
    ENTRY_LIMIT,
    AppendEntries,
    AppendEntriesReply,
    HardState,
    Index,
    Message,
    Ping,
    Request,
    RequestVote,
    RequestVoteReply,
    SnapshotOffer,
    TimeoutNow,
)
from appliance.consensus.quorum import Outcome
from appliance.consensus.ready import Fetch, Outbox, Ready, Role, RoleChange
from appliance.consensus.snapshot import Kept, Snapshot
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import Monotonic, NodeName, Term
from appliance.words.settings import Consensus

ABSTENTION = 4
"""Election timeouts for which a node that resigned does not stand: the others need at most about two of them."""

COURTESY = 0.5
"""Election timeouts that the node which led last waits longer than the others, so that turns are shared."""


class Raft:
    """One node's consensus.

    Args:
        node: this node's name.
        bootstrap: the membership until a snapshot or the log holds one. Without voters: a node that is to join a
            cluster that is there already, and waits until its leader calls.
        hard_state, kept: what was made durable before; of a new node empty.
        random: spreads the election timeouts.

    Raises ValueError if what was kept contradicts itself.
    """

    def __init__(
        self,
        *,
        node: NodeName,
        bootstrap: Membership,
        settings: Consensus,
        hard_state: HardState,
        kept: Kept,
        random: random.Random,
        now: Monotonic,
    ) -> None:
        self._log = Log(kept.reconciled(), hard_state.commit, bootstrap)
        if self._log.last_term > hard_state.term:
            raise ValueError("the log is of a later term than the hard state")
        self._node = node
        self._settings = settings
        self._random = random
        self._term, self._voted_for = hard_state.term, hard_state.voted_for
        self._leader: NodeName | None = None
        self._leader_heard = now
        self._leadership: Leadership | None = None
        self._candidacy: Candidacy | None = None
        self._favourite = Favourite(node=node, log=self._log, settings=settings, now=now)
        self._abstain_until = now
        self._out = Outbox(hard_state)
        self._send = self._out.send
        self._election_due = now
        if set(self._log.membership.voters) != {node}:
            self._wait(now)

    # --- what can be asked --------------------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        if self._leadership is not None:
            return Role.LEADER
        return Role.FOLLOWER if self._candidacy is None else Role.CANDIDATE

    @property
    def term(self) -> Term:
        return self._term

    @property
    def leader(self) -> NodeName | None:
        """The leader of this term, as far as this node knows."""
        return self._leader

    @property
    def log(self) -> Log:
        """The log; to be read only."""
        return self._log

    @property
    def settled(self) -> bool:
        """Whether this node leads and has committed its own no-op: all entries before its term are decided (8)."""
        return self._leadership is not None and self._log.term_at(self._log.commit) == self._term

    @property
    def next_deadline(self) -> Monotonic:
        """When ``tick`` must be called, unless something happens before."""
        if self._leadership is None:
            due = self._election_due if self._candidacy is None else min(self._election_due, self._candidacy.ask_again)
            return due if self._may_stand else Monotonic(float("inf"))
        deadlines = [self._leadership.heartbeat_due, self._leadership.quorum_lost_at]
        if self._leadership.handover is not None:
            deadlines.append(self._leadership.handover.deadline)
        return min(deadlines)

    # --- what can happen ----------------------------------------------------------------------------------------------

    def step(self, sender: NodeName, message: Message, now: Monotonic) -> None:
        """Take in a message of an authentic sender, a member or not (thesis, 4.1: memberships may differ meanwhile).

        Raises RemoteError on one that no correct member sends; it is then ignored.
        """
        if isinstance(message, Ping):
            return
        if isinstance(message, AppendEntries):
            check_entries(message)
        if message.term > self._term and self._follows_term(message, now):
            self._become_follower(message.term, None, now)
        match message:
            case RequestVote():
                self._on_request_vote(sender, message, now)
            case RequestVoteReply():
                self._on_vote(sender, message, now)
            case AppendEntries() | SnapshotOffer():
                self._on_leader(sender, message, now)
            case AppendEntriesReply():
                if self._leadership is not None and message.term == self._term:
                    self._out.reads += self._leadership.on_reply(sender, message, now)
                    self._advance(now)
            case TimeoutNow():
                asked = (message.term, sender) == (self._term, self._leader)
                if asked and self._candidacy is None and self._may_stand:
                    self._stand(now, trial=False, transfer=True)

    def tick(self, now: Monotonic) -> None:
        """Do what is due; call it at ``next_deadline``, after the messages that have arrived."""
        if self._leadership is None:
            if now >= self._election_due and self._may_stand:
                self._stand(now, trial=True)
            elif self._candidacy is not None and now >= self._candidacy.ask_again:
                self._ask_for_votes(self._candidacy, now)
            return
        handover = self._leadership.handover
        over = handover is not None and now >= handover.deadline
        if now >= self._leadership.quorum_lost_at or (over and self._leadership.resigning):
            self._step_down(now)
        elif over:
            self._leadership.handover = None
        elif now >= self._leadership.heartbeat_due:
            self._leadership.heartbeat(now)

    def propose(self, data: bytes, now: Monotonic, request: Request | None = None) -> tuple[Index, Term] | None:
        """Append an entry, if this node leads and is not handing over; it is committed when it comes out of ``Ready``.

        If the entry of that index comes out with another term, the proposal is lost. A request that is in the log
        already is not appended again; what is returned is where it stands.
        """
        if len(data) > ENTRY_LIMIT:
            raise ValueError(f"an entry carries at most {ENTRY_LIMIT} bytes")
        if self._leadership is None:
            return None
        place = self._leadership.propose(data, request, now)
        self._advance(now)
        return place

    def add(self, node: NodeName, place: Place, now: Monotonic) -> None:
        """Let a node join as a learner; it votes by itself once it has caught up (thesis, 4.2.1).

        Raises OperatorError if that can't be now.
        """
        self._change(self._log.membership.with_learner(node, place), now)

    def remove(self, node: NodeName, now: Monotonic) -> None:
        """Let a node leave, this one too (thesis, 4.2.2). Raises OperatorError if that can't be now."""
        self._change(self._log.membership.without(node), now)

    def _change(self, membership: Membership, now: Monotonic) -> None:
        if self._leadership is None or not self.settled:
            raise OperatorError("this node does not lead, or only just began to; ask the leader, or ask again")
        self._leadership.change(membership, now)
        self._advance(now)

    def read(self, number: int, now: Monotonic) -> bool:
        """Ask up to where one must have applied to answer a read now; ``Ready.reads`` answers, by the number given.

        False if this node can't say: it does not lead, or has not committed an entry of its term (thesis, 6.4).
        """
        if self._leadership is None or not self.settled or now >= self._leadership.quorum_lost_at:
            return False
        self._leadership.reads.ask(number, self._log.commit)
        return True

    def compact(self, state: bytes, keep: int) -> None:
        """Put ``state``, which is what all committed entries amount to, in their place; the last ``keep`` stay.

        Raises ValueError if the caller has not applied all that is committed.
        """
        self._log.compact(state, keep)

    def install(self, sender: NodeName, snapshot: Snapshot, now: Monotonic) -> None:
        """Take in a snapshot that ``Ready.fetch`` asked for, if it comes from this term's leader and is news."""
        if sender != self._leader or self._leadership is not None or snapshot.term > self._term:
            return
        self._log.install(snapshot)
        self._leader_heard = now
        self._wait(now)
        self._send(sender, AppendEntriesReply(self._term, True, self._log.commit))

    def transfer(self, now: Monotonic, target: NodeName | None = None) -> bool:
        """Hand leadership over (thesis, 3.10), to the fit follower that has led least if none is named.

        Given up after an election timeout; the leader then goes on. Says whether a transfer began.
        """
        return self._leadership is not None and self._leadership.transfer(now, target)

    def resign(self, now: Monotonic) -> bool:
        """Hand leadership over, or else step down after an election timeout; do not stand again for a while.

        False if this node does not lead, or is the only one.
        """
        return self._leadership is not None and self._leadership.resign(now)

    def keep_alive(self) -> list[tuple[NodeName, Message]]:
        """Return heartbeats that a leader may send while a ``Ready`` is still being made durable.

        So a slow disk costs no election. They tell nothing of that ``Ready``: its entries were never acknowledged, what
        it commits may have been counted by members that it is to write, and the term was durable before anybody else
        voted for it. The only voter has no such proof, and says nothing.
        """
        alone = len(self._log.membership.voters) == 1
        return [] if self._leadership is None or alone else self._leadership.keep_alive(self._out.carried_out)

    def ready(self) -> Ready:
        """Drain what is to be done."""
        if self._leadership is not None:
            self._leadership.prove()
            self._out.reads += self._leadership.confirmed()
        return self._out.drain(self._log, HardState(self._term, self._voted_for, self._log.commit))

    # --- elections (paper, 5.2 and 5.4.1; thesis, 9.6) ----------------------------------------------------------------

    @property
    def _may_stand(self) -> bool:
        """Whether this node has a vote; one that is being removed has until it knows that to be committed (4.2.2)."""
        return self._node in self._log.membership.voters or self._node in self._log.settled_membership.voters

    def _follows_term(self, message: Message, now: Monotonic) -> bool:
        """Say whether a message of a later term moves this node to that term."""
        match message:
            case RequestVote():
                # A node that was cut off must not depose a leader whom the others hear (thesis, 4.2.3).
                return not message.pre_vote and (message.transfer or not self._hears_leader(now))
            case RequestVoteReply():
                return not (message.pre_vote and message.granted)
            case _:
                return True

    def _hears_leader(self, now: Monotonic) -> bool:
        if self._leadership is not None:
            return now < self._leadership.quorum_lost_at
        return self._leader is not None and now < self._leader_heard + self._settings.election_timeout_s

    def _on_request_vote(self, sender: NodeName, message: RequestVote, now: Monotonic) -> None:
        up_to_date = self._log.is_up_to_date(message.last_index, message.last_term)
        if message.pre_vote:
            granted = message.term > self._term and up_to_date and not self._hears_leader(now)
            granted = granted and self._favourite.allows(sender, now)
            if granted:
                self._favourite.choose(sender, now)
            self._send(sender, RequestVoteReply(message.term if granted else self._term, True, granted))
            return
        granted = message.term == self._term and up_to_date and self._voted_for in {None, sender}
        if granted:
            self._voted_for = sender
            self._wait(now)
        self._send(sender, RequestVoteReply(self._term, False, granted))

    def _on_vote(self, sender: NodeName, message: RequestVoteReply, now: Monotonic) -> None:
        if self._candidacy is not None:
            self._candidacy.take(sender, message)
            self._judge(self._candidacy, now)

    def _stand(self, now: Monotonic, *, trial: bool, transfer: bool = False) -> None:
        """Stand for election; a trial first asks whether it could be won, and disturbs nobody (PreVote)."""
        if trial:
            self._favourite.choose(self._node, now)
        else:
            self._term, self._voted_for = self._term + 1, self._node
        self._leader = None
        candidacy = self._candidacy = Candidacy(
            self._node, self._term + trial, self._log, self._settings, trial=trial, transfer=transfer, now=now
        )
        self._wait(now)
        self._note()
        self._ask_for_votes(candidacy, now)
        self._judge(candidacy, now)

    def _ask_for_votes(self, candidacy: Candidacy, now: Monotonic) -> None:
        for voter, request in candidacy.ask(now):
            self._send(voter, request)

    def _judge(self, candidacy: Candidacy, now: Monotonic) -> None:
        if candidacy.outcome is Outcome.LOST:
            self._favourite.give_up()
            self._become_follower(self._term, None, now)
        elif candidacy.outcome is Outcome.WON and candidacy.trial:
            self._stand(now, trial=False)
        elif candidacy.outcome is Outcome.WON:
            self._become_leader(now)

    def _become_leader(self, now: Monotonic) -> None:
        self._candidacy = None
        self._leader = self._node
        log = self._log
        self._leadership = Leadership(
            node=self._node, term=self._term, log=log, settings=self._settings, send=self._send, now=now
        )
        # Entries of former terms are committed only through one of this term (figure 8; thesis, 6.4).
        self._leadership.append("no-op", self._node.encode())
        if not log.membership_index:
            # From now on the log says who the members are, and not what each node was told when it began.
            self._leadership.append("members", encode_membership(log.membership))
        self._leadership.heartbeat(now)
        self._note()
        self._advance(now)

    def _become_follower(self, term: Term, leader: NodeName | None, now: Monotonic) -> None:
        if term > self._term:
            self._term, self._voted_for = term, None
        if self._leadership is not None:
            self._step_down(now)
        self._candidacy = None
        self._leader = leader
        self._note()

    def _step_down(self, now: Monotonic) -> None:
        assert self._leadership is not None  # noqa: S101 - only a leader steps down
        if self._leadership.resigning:
            self._abstain_until = Monotonic(now + ABSTENTION * self._settings.election_timeout_s)
        self._out.reads += self._leadership.reads.lost()
        self._leadership = None
        self._leader = None
        self._wait(now)
        self._note()

    def _wait(self, now: Monotonic) -> None:
        """Set the election timeout anew: random, against split votes (5.2)."""
        spread = 1 + self._random.random()
        if self._log.ledger.last_leader == self._node:
            spread += COURTESY
        start = max(now, self._abstain_until)
        self._election_due = Monotonic(start + spread * self._settings.election_timeout_s)

    # --- following and leading ----------------------------------------------------------------------------------------

    def _on_leader(self, sender: NodeName, message: AppendEntries | SnapshotOffer, now: Monotonic) -> None:
        if message.term < self._term:
            self._send(sender, AppendEntriesReply(self._term, False, 0))
            return
        if self._leader not in {None, sender}:
            raise RemoteError(f"{sender} claims to lead term {message.term}, which {self._leader} leads")
        self._become_follower(message.term, sender, now)
        self._leader_heard = now
        self._wait(now)
        if isinstance(message, AppendEntries):
            self._send(sender, append(self._log, message, self._term))
            return
        if message.index > self._log.commit:
            self._out.fetch = Fetch(sender, message.index)
        # All that is committed here is in the leader's log too, and durable here (leader completeness).
        self._send(sender, AppendEntriesReply(self._term, True, self._log.commit, beat=message.beat))

    def _advance(self, now: Monotonic) -> None:
        """Commit what can be; a leader that is no member any more steps down then (thesis, 4.2.2)."""
        assert self._leadership is not None  # noqa: S101 - only a leader counts
        self._leadership.advance(now)
        if not self._may_stand:
            self._step_down(now)

    def _note(self) -> None:
        """Tell of a change of role, term or leader."""
        self._out.note(RoleChange(self.role, self._term, self._leader))
