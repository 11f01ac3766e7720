"""Standing for election (paper, 5.2), and the trial before it (PreVote; thesis, 9.6)."""

from appliance.consensus.log import Log
from appliance.consensus.messages import RequestVote, RequestVoteReply
from appliance.consensus.quorum import Outcome, Tally
from appliance.words.ids import Monotonic, NodeName, Term
from appliance.words.settings import Consensus

FAVOUR = 0.5
"""Election timeouts for which a node grants trials to one candidate only, unless a better one asks."""

UNDISTURBED = 0.1
"""Election timeouts for which it does so in any case: time for the one to win."""


class Candidacy:
    """One election in which a node stands.

    Args:
        term: the one that it stands in; in a trial, the one that it would stand in.
        trial: asks whether the election could be won, and disturbs nobody.
        transfer: the leader itself wants this election (thesis, 3.10).

    Attributes:
        ask_again: when to ask once more, for datagrams get lost, and voters change their mind about a trial.
    """

    def __init__(
        self, node: NodeName, term: Term, log: Log, settings: Consensus, *, trial: bool, transfer: bool, now: Monotonic
    ) -> None:
        self.trial = trial
        self.ask_again = now
        self._request = RequestVote(term, log.last_index, log.last_term, trial, transfer)
        self._interval = settings.heartbeat_interval_s
        self._tally = Tally(log.membership.voters)
        self._tally.record(node, True)

    def ask(self, now: Monotonic) -> list[tuple[NodeName, RequestVote]]:
        """Return what to send to the voters that have not given their vote; at growing intervals."""
        self.ask_again = Monotonic(now + self._interval)
        self._interval *= 2
        return [(voter, self._request) for voter in sorted(self._tally.missing)]

    def take(self, voter: NodeName, reply: RequestVoteReply) -> None:
        """Count an answer, if it is one to this election; a refusal of a trial is in the voter's own term."""
        expected = self._request.term if reply.granted or not self.trial else self._request.term - 1
        if reply.pre_vote == self.trial and reply.term == expected:
            self._tally.record(voter, reply.granted)

    @property
    def outcome(self) -> Outcome:
        """How the election stands."""
        return self._tally.outcome


class Favourite:
    """Whose trial a node grants: one at a time, lest two win theirs at once and split the votes.

    Binds nobody in earnest, so it can cost no safety; it ends by itself, so it can cost no liveness.
    """

    def __init__(self, *, node: NodeName, log: Log, settings: Consensus, now: Monotonic) -> None:
        self._node = node
        self._log = log
        self._timeout_s = settings.election_timeout_s
        self._name: NodeName | None = None
        self._since = now

    def choose(self, name: NodeName, now: Monotonic) -> None:
        """Favour a node for a while."""
        if name != self._name or now >= self._since + FAVOUR * self._timeout_s:
            self._since = now
        self._name = name

    def give_up(self) -> None:
        """This node's own trial is lost: no reason any more to refuse one that may win, and never again, if it lags."""
        if self._name == self._node:
            self._name = None

    def allows(self, name: NodeName, now: Monotonic) -> bool:
        """Say whether a node may be granted its trial; the first that asks, and who asks again.

        The favourite gives way to one that has led less, of equals to the first by name: of many who try, each favoured
        by a few, this one then wins. At once if it is this node itself; another one that only just asked may win yet.
        """
        if self._name in {None, name} or now >= self._since + FAVOUR * self._timeout_s:
            return True
        return self._is_outranked_by(name) and (
            self._name == self._node or now >= self._since + UNDISTURBED * self._timeout_s
        )

    def _is_outranked_by(self, name: NodeName) -> bool:
        turns, favourite = self._log.ledger.turns, self._name or ""
        return (turns.get(name, 0), name) < (turns.get(favourite, 0), favourite)
