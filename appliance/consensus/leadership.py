"""The leader's part: what it knows of each follower, replication, the majority it must keep, and handing over."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from appliance.consensus.log import Log
from appliance.consensus.messages import AppendEntries, AppendEntriesReply, Index, Message, TimeoutNow, batch
from appliance.consensus.quorum import reached_by_majority
from appliance.words.errors import RemoteError
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
    """

    next: Index
    match: Index = 0
    probing: bool = True
    heard: Monotonic | None = None
    match_at_heartbeat: Index = 0


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
        self, *, term: Term, peers: Collection[NodeName], log: Log, settings: Consensus, send: Send, now: Monotonic
    ) -> None:
        self.since = now
        self.heartbeat_due = now
        self.handover: Handover | None = None
        self._term = term
        self._log = log
        self._settings = settings
        self._send = send
        self._followers = {peer: Follower(next=log.last_index + 1) for peer in sorted(peers)}

    @property
    def quorum_lost_at(self) -> Monotonic:
        """When the leader must step down unless it hears from more followers (CheckQuorum; thesis, 6.2)."""
        if not self._followers:
            return Monotonic(float("inf"))
        heard = [self.since if f.heard is None else f.heard for f in self._followers.values()]
        # The leader itself counts as heard for ever, so the majority hangs on the others.
        return Monotonic(reached_by_majority([float("inf"), *heard]) + self._settings.election_timeout_s)

    @property
    def reached(self) -> Index:
        """The largest index that a majority holds durably.

        The leader counts its own last entry, because nothing that follows from this leaves the node before that entry
        is durable (``Ready``).
        """
        return reached_by_majority([self._log.last_index, *(f.match for f in self._followers.values())])

    def live_peers(self, now: Monotonic) -> frozenset[NodeName]:
        """Return the followers that answered within the last two election timeouts."""
        oldest = now - 2 * self._settings.election_timeout_s
        return frozenset(n for n, f in self._followers.items() if f.heard is not None and f.heard >= oldest)

    # --- replication (paper, 5.3) -------------------------------------------------------------------------------------

    def heartbeat(self, now: Monotonic) -> None:
        """Send to every follower, and again what seems lost."""
        self.heartbeat_due = Monotonic(now + self._settings.heartbeat_interval_s)
        for name, follower in self._followers.items():
            if follower.next > follower.match + 1 and follower.match == follower.match_at_heartbeat:
                follower.probing = True
                follower.next = follower.match + 1
            follower.match_at_heartbeat = follower.match
            self._append(name, follower)
        if self.handover is not None:
            self._pursue(self.handover, now)

    def keep_alive(self) -> list[tuple[NodeName, Message]]:
        """Return heartbeats about nothing but what each follower has acknowledged."""
        return [
            (name, AppendEntries(self._term, f.match, self._log.term_at(f.match) or 0, self._log.commit, ()))
            for name, f in self._followers.items()
        ]

    def replicate(self) -> None:
        """Send new entries to the followers whose logs are known to fit."""
        for name, follower in self._followers.items():
            self._fill(name, follower)

    def tell_commit(self) -> None:
        """Let the followers know at once what is committed, rather than with the next heartbeat."""
        for name, follower in self._followers.items():
            if not follower.probing:
                self._append(name, follower)

    def on_reply(self, name: NodeName, reply: AppendEntriesReply, now: Monotonic) -> None:
        """Take in a follower's answer of this term. Raises RemoteError if it can't be true."""
        if max(reply.index, reply.hint_index) > self._log.last_index:
            raise RemoteError("an answer about entries that were never sent")
        follower = self._followers[name]
        follower.heard = now
        if reply.accepted:
            follower.match = max(follower.match, reply.index)
            follower.next = follower.match + 1 if follower.probing else max(follower.next, follower.match + 1)
            follower.probing = False
            self._fill(name, follower)
        elif reply.index > follower.match and (not follower.probing or reply.index == follower.next - 1):
            # Skip all of the follower's entries that can't be equal (end of 5.3): ours whose term is past its hint's.
            equal = self._log.last_up_to(reply.hint_index, reply.hint_term)
            follower.next = max(follower.match, min(reply.index - 1, equal)) + 1
            follower.probing = True
            self._append(name, follower)
        if self.handover is not None and self.handover.target in {None, name}:
            self._pursue(self.handover, now)

    def _fill(self, name: NodeName, follower: Follower) -> None:
        while not follower.probing and follower.next <= min(self._log.last_index, follower.match + WINDOW):
            self._append(name, follower)

    def _append(self, name: NodeName, follower: Follower) -> None:
        previous = follower.next - 1
        previous_term = self._log.term_at(previous)
        assert previous_term is not None  # noqa: S101 - next is at most one past the end: a leader never truncates
        last = (previous if follower.probing else follower.match) + WINDOW
        entries = batch(self._log.entries(follower.next, last))
        if not follower.probing:
            follower.next += len(entries)
        self._send(name, AppendEntries(self._term, previous, previous_term, self._log.commit, entries))

    # --- handing over (thesis, 3.10) ----------------------------------------------------------------------------------

    def hand_over(self, now: Monotonic, target: NodeName | None, *, resign: bool) -> bool:
        """Begin a transfer; without a target to the fit follower that has led least. Say whether one began."""
        if target is not None and target not in self._followers:
            return False
        chosen = target or self._heir(now)
        if not self._followers or (chosen is None and not resign):
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
        """Return the live follower with all committed entries that has led least; the first by name of equals."""
        fit = [name for name in self.live_peers(now) if self._followers[name].match >= self._log.commit]
        return min(fit, key=lambda name: (self._log.turns(name), name), default=None)
