"""Raft: messages and time in; a ``Ready`` with what to make durable, to send and to apply out.

Safety rests on the caller carrying a ``Ready`` out in its order. See the package for the papers that are cited.
"""

import itertools
import random
from collections.abc import Collection, Sequence

from appliance.consensus.leadership import Leadership
from appliance.consensus.log import Log
from appliance.consensus.messages import (
    ENTRY_LIMIT,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    HardState,
    Index,
    Message,
    Ping,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
    check_sequence,
)
from appliance.consensus.quorum import Outcome, Tally
from appliance.consensus.ready import Ready, Role, RoleChange
from appliance.words.errors import RemoteError
from appliance.words.ids import Monotonic, NodeName, Term
from appliance.words.settings import Consensus

ABSTENTION = 4
"""Election timeouts for which a node that resigned does not stand: the others need at most about two of them."""

COURTESY = 0.5
"""Election timeouts that the node which led last waits longer than the others, so that turns are shared."""


class Raft:
    """One node's consensus.

    Args:
        node: this node's name; one of ``members``.
        hard_state, log: what was made durable before; of a new node empty.
        random: spreads the election timeouts.

    Raises ValueError if what was kept contradicts itself.
    """

    def __init__(
        self,
        *,
        node: NodeName,
        members: Collection[NodeName],
        settings: Consensus,
        hard_state: HardState,
        log: Sequence[Entry],
        random: random.Random,
        now: Monotonic,
    ) -> None:
        self._log = Log(log, hard_state.commit)
        if node not in members or self._log.last_term > hard_state.term:
            raise ValueError(f"{node} is no member, or its log is of a later term than its hard state")
        self._node = node
        self._members = frozenset(members)
        self._peers = sorted(self._members - {node})
        self._settings = settings
        self._random = random
        self._term, self._voted_for = hard_state.term, hard_state.voted_for
        self._saved = hard_state
        self._leader: NodeName | None = None
        self._leader_heard = now
        self._leadership: Leadership | None = None
        self._tally: Tally | None = None
        self._trial = False
        self._abstain_until = now
        self._messages: list[tuple[NodeName, Message]] = []
        self._role_changes: list[RoleChange] = []
        self._told = RoleChange(Role.FOLLOWER, self._term, None)
        self._election_due = now
        if self._peers:
            self._wait(now)

    # --- what can be asked --------------------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        if self._leadership is not None:
            return Role.LEADER
        return Role.FOLLOWER if self._tally is None else Role.CANDIDATE

    @property
    def term(self) -> Term:
        return self._term

    @property
    def leader(self) -> NodeName | None:
        """The leader of this term, as far as this node knows."""
        return self._leader

    @property
    def commit_index(self) -> Index:
        return self._log.commit

    @property
    def last_index(self) -> Index:
        return self._log.last_index

    @property
    def settled(self) -> bool:
        """Whether this node leads and has committed its own no-op: all entries before its term are decided (8)."""
        return self._leadership is not None and self._log.term_at(self._log.commit) == self._term

    @property
    def led_since(self) -> Monotonic | None:
        """When this node became the leader; None if it is not."""
        return None if self._leadership is None else self._leadership.since

    @property
    def next_deadline(self) -> Monotonic:
        """When ``tick`` must be called, unless something happens before."""
        if self._leadership is None:
            return self._election_due
        deadlines = [self._leadership.heartbeat_due, self._leadership.quorum_lost_at]
        if self._leadership.handover is not None:
            deadlines.append(self._leadership.handover.deadline)
        return min(deadlines)

    def live_peers(self, now: Monotonic) -> frozenset[NodeName]:
        """Return the followers that answered this leader within two election timeouts; empty if it leads no more."""
        return frozenset() if self._leadership is None else self._leadership.live_peers(now)

    def turns(self) -> dict[NodeName, int]:
        """Return how often each member has led, by the log."""
        return {node: self._log.turns(node) for node in sorted(self._members)}

    # --- what can happen ----------------------------------------------------------------------------------------------

    def step(self, sender: NodeName, message: Message, now: Monotonic) -> None:
        """Take in a message. Raises RemoteError on one that no correct member sends; it is then ignored."""
        if sender not in self._peers:
            raise RemoteError(f"{sender} is no peer in this cluster")
        if isinstance(message, Ping):
            return
        if isinstance(message, AppendEntries):
            check_sequence(message)
        if message.term > self._term and self._follows_term(message, now):
            self._become_follower(message.term, None, now)
        match message:
            case RequestVote():
                self._on_request_vote(sender, message, now)
            case RequestVoteReply():
                self._on_vote(sender, message, now)
            case AppendEntries():
                self._on_append(sender, message, now)
            case AppendEntriesReply():
                if self._leadership is not None and message.term == self._term:
                    self._leadership.on_reply(sender, message, now)
                    self._advance_commit()
            case TimeoutNow():
                if self._tally is None and message.term == self._term and sender == self._leader:
                    self._stand(now, trial=False, transfer=True)

    def tick(self, now: Monotonic) -> None:
        """Do what is due; call it at ``next_deadline``, after the messages that have arrived."""
        if self._leadership is None:
            if now >= self._election_due:
                self._stand(now, trial=True)
            return
        handover = self._leadership.handover
        if now >= self._leadership.quorum_lost_at:
            self._step_down(now, resigning=handover is not None and handover.resign)
        elif handover is not None and now >= handover.deadline:
            if handover.resign:
                self._step_down(now, resigning=True)
            else:
                self._leadership.handover = None
        elif now >= self._leadership.heartbeat_due:
            self._leadership.heartbeat(now)

    def propose(self, data: bytes, now: Monotonic) -> tuple[Index, Term] | None:
        """Append an entry, if this node leads and is not handing over; it is committed when it comes out of ``Ready``.

        If the entry of that index comes out with another term, the proposal is lost.
        """
        if len(data) > ENTRY_LIMIT:
            raise ValueError(f"an entry carries at most {ENTRY_LIMIT} bytes")
        if self._leadership is None or self._leadership.handover is not None or now >= self._leadership.quorum_lost_at:
            return None
        self._log.append([Entry(self._log.last_index + 1, self._term, "data", data)])
        self._leadership.replicate()
        self._advance_commit()
        return self._log.last_index, self._term

    def transfer(self, now: Monotonic, target: NodeName | None = None) -> bool:
        """Hand leadership over (thesis, 3.10), to the fit follower that has led least if none is named.

        Given up after an election timeout; the leader then goes on. Says whether a transfer began.
        """
        if self._leadership is None or self._leadership.handover is not None:
            return False
        return self._leadership.hand_over(now, target, resign=False)

    def resign(self, now: Monotonic) -> bool:
        """Hand leadership over, or else step down after an election timeout; do not stand again for a while.

        False if this node does not lead, or is the only one.
        """
        if self._leadership is None:
            return False
        handover = self._leadership.handover
        resigning = handover is not None and handover.resign
        return resigning or self._leadership.hand_over(now, None, resign=True)

    def keep_alive(self) -> list[tuple[NodeName, Message]]:
        """Return heartbeats that a leader may send while a ``Ready`` is still being made durable.

        So a slow disk costs no election. They tell nothing of that ``Ready``: its entries were never acknowledged, and
        the term was durable before anybody voted for it.
        """
        return [] if self._leadership is None else self._leadership.keep_alive()

    def ready(self) -> Ready:
        """Drain what is to be done."""
        truncate_from, entries = self._log.drain()
        state = HardState(self._term, self._voted_for, self._log.commit)
        promised = (state.term, state.voted_for) != (self._saved.term, self._saved.voted_for)
        # A commit alone is worth no fsync: a leader finds it again (5.4.2). It rides along with other writes.
        must_write = promised or ((bool(entries) or truncate_from is not None) and state != self._saved)
        if must_write:
            self._saved = state
        messages, self._messages = tuple(self._messages), []
        role_changes, self._role_changes = tuple(self._role_changes), []
        return Ready(
            hard_state=state if must_write else None,
            truncate_from=truncate_from,
            entries=entries,
            messages=messages,
            committed=self._log.drain_committed(),
            role_changes=role_changes,
        )

    # --- elections (paper, 5.2 and 5.4.1; thesis, 9.6) ----------------------------------------------------------------

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
            self._send(sender, RequestVoteReply(message.term if granted else self._term, True, granted))
            return
        granted = message.term == self._term and up_to_date and self._voted_for in {None, sender}
        if granted:
            self._voted_for = sender
            self._wait(now)
        self._send(sender, RequestVoteReply(self._term, False, granted))

    def _on_vote(self, sender: NodeName, message: RequestVoteReply, now: Monotonic) -> None:
        expected = self._term + 1 if message.pre_vote and message.granted else self._term
        if self._tally is not None and message.pre_vote == self._trial and message.term == expected:
            self._tally.record(sender, message.granted)
            self._judge(now)

    def _stand(self, now: Monotonic, *, trial: bool, transfer: bool = False) -> None:
        """Stand for election; a trial first asks whether it could be won, and disturbs nobody (PreVote)."""
        if not trial:
            self._term, self._voted_for = self._term + 1, self._node
        self._leader = None
        self._trial = trial
        self._tally = Tally(self._members)
        self._tally.record(self._node, True)
        self._wait(now)
        self._note()
        term = self._term + 1 if trial else self._term
        for peer in self._peers:
            self._send(peer, RequestVote(term, self._log.last_index, self._log.last_term, trial, transfer))
        self._judge(now)

    def _judge(self, now: Monotonic) -> None:
        assert self._tally is not None  # noqa: S101 - only called in an election
        if self._tally.outcome is Outcome.LOST:
            self._become_follower(self._term, None, now)
        elif self._tally.outcome is Outcome.WON and self._trial:
            self._stand(now, trial=False)
        elif self._tally.outcome is Outcome.WON:
            self._become_leader(now)

    def _become_leader(self, now: Monotonic) -> None:
        self._tally = None
        self._leader = self._node
        self._leadership = Leadership(
            term=self._term, peers=self._peers, log=self._log, settings=self._settings, send=self._send, now=now
        )
        # Entries of former terms are committed only through one of this term (figure 8; thesis, 6.4).
        self._log.append([Entry(self._log.last_index + 1, self._term, "no-op", self._node.encode())])
        self._leadership.heartbeat(now)
        self._note()
        self._advance_commit()

    def _become_follower(self, term: Term, leader: NodeName | None, now: Monotonic) -> None:
        if term > self._term:
            self._term, self._voted_for = term, None
        if self._leadership is not None:
            handover = self._leadership.handover
            self._step_down(now, resigning=handover is not None and handover.resign)
        self._tally = None
        self._leader = leader
        self._note()

    def _step_down(self, now: Monotonic, *, resigning: bool) -> None:
        if resigning:
            self._abstain_until = Monotonic(now + ABSTENTION * self._settings.election_timeout_s)
        self._leadership = None
        self._leader = None
        self._wait(now)
        self._note()

    def _wait(self, now: Monotonic) -> None:
        """Set the election timeout anew: random, against split votes (5.2)."""
        spread = 1 + self._random.random()
        if self._log.last_leader == self._node:
            spread += COURTESY
        start = max(now, self._abstain_until)
        self._election_due = Monotonic(start + spread * self._settings.election_timeout_s)

    # --- the log (paper, 5.3 and 5.4.2) -------------------------------------------------------------------------------

    def _on_append(self, sender: NodeName, message: AppendEntries, now: Monotonic) -> None:
        if message.term < self._term:
            self._send(sender, AppendEntriesReply(self._term, False, message.previous_index))
            return
        if self._leader not in {None, sender}:
            raise RemoteError(f"{sender} claims to lead term {message.term}, which {self._leader} leads")
        self._become_follower(message.term, sender, now)
        self._leader_heard = now
        self._wait(now)
        log = self._log
        if log.term_at(message.previous_index) != message.previous_term:
            hint = log.last_up_to(min(message.previous_index, log.last_index), message.previous_term)
            self._send(
                sender, AppendEntriesReply(self._term, False, message.previous_index, hint, log.term_at(hint) or 0)
            )
            return
        # Only an entry that differs is replaced, with all that follow: a late, shorter message removes nothing.
        known = sum(1 for _ in itertools.takewhile(lambda e: log.term_at(e.index) == e.term, message.entries))
        first_fresh = message.previous_index + known + 1
        if known < len(message.entries):
            if first_fresh <= log.commit:
                raise RemoteError(f"entry {first_fresh} differs from the committed one")
            log.truncate(first_fresh)
            log.append(message.entries[known:])
        agreed = message.previous_index + len(message.entries)
        log.commit = max(log.commit, min(message.commit, agreed))
        self._send(sender, AppendEntriesReply(self._term, True, agreed))

    def _advance_commit(self) -> None:
        """Commit what a majority holds, but count only for an entry of this term (figure 8)."""
        assert self._leadership is not None  # noqa: S101 - only a leader counts
        reached = self._leadership.reached
        if reached > self._log.commit and self._log.term_at(reached) == self._term:
            self._log.commit = reached
            self._leadership.tell_commit()

    def _send(self, to: NodeName, message: Message) -> None:
        self._messages.append((to, message))

    def _note(self) -> None:
        """Record a change of role, term or leader, once."""
        change = RoleChange(self.role, self._term, self._leader)
        if change != self._told:
            self._told = change
            self._role_changes.append(change)
