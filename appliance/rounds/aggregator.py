"""The aggregator's side of a round: open, collect, aggregate, make durable on a majority, commit."""

import math

import msgspec

from appliance.rounds.actions import (
    Aggregate,
    AggregatorAction,
    Answer,
    Count,
    CreateInitialModel,
    HandOver,
    MakeLeaderKey,
    Note,
    ObtainModel,
    Propose,
    Say,
    SignToken,
    StartCollecting,
    Waiting,
)
from appliance.rounds.collected import Collected, OpenedUpdate, Phase
from appliance.rounds.electorate import Electorate
from appliance.rounds.participant import short
from appliance.rounds.retry import Retry
from appliance.words.ids import Digest, Monotonic, NodeName, Round, Term
from appliance.words.messages import (
    Announcement,
    Candidate,
    Finished,
    LeaderStatement,
    Participation,
    Stored,
    TokenWanted,
)
from appliance.words.models import Encoding, GlobalModel, Metrics
from appliance.words.settings import Rounds

LAST_CALL_S = 5.0
"""Before the deadline, beside the window: time for the way and the receipts of those that have finished."""

BEACON_S = 1.0
"""How often the leader says again what holds: a node that just came up or lost a message learns it within this time."""


class Aggregator:
    """The leader's side, active only while this node leads. Events in, actions out; no clock, no thread, no bytes.

    A term begins with ``lead`` (consensus has committed this leader's first entry, so the lineage is complete) and ends
    with ``stop``; what was under way at ``stop`` is given up, and the participants' kept updates serve the next leader.
    """

    def __init__(
        self,
        node: NodeName,
        cluster: str,
        members: frozenset[NodeName],
        settings: Rounds,
        *,
        window_s: float,
        key_rounds: int,
        least_updates: int = 1,
        task: str = "",
        encoding: Encoding = "float32",
    ) -> None:
        """Begin inactive. ``settings.quorum`` of None is a majority of the members.

        Args:
            window_s: when all have finished, their updates come within this time; 0: each comes when it is finished.
            key_rounds: a fresh key after this many rounds.
            least_updates: what the strategy needs: the quorum is never below it, even with members removed.
            task: the fingerprint of this node's task, for the lineage.
            encoding: of the updates in the rounds that are opened here.
        """
        self._node = node
        self._cluster = cluster
        self._task = task
        self._settings = settings
        self._window_s = window_s
        self._key_rounds = key_rounds
        self._encoding = encoding
        self._rounds_under_key = 0
        self._electorate = Electorate(node, members, settings.quorum, least_updates)
        self._stored_by: set[NodeName] = set()
        self._phase = Phase.INACTIVE
        self._since = Monotonic(0.0)
        self._term: Term = 0
        self._head: GlobalModel | None = None
        self._head_is_stored = False
        self._announcement: Announcement | None = None
        self._current: Collected | None = None
        self._next_opening = Monotonic(float("-inf"))
        self._next_beacon = Monotonic(float("-inf"))
        self._obtain = Retry(first_s=1.0, most_s=10.0)
        self._replicate = Retry(first_s=1.0, most_s=10.0)
        self._handing_over = False
        self._actions: list[AggregatorAction] = []

    def set_rounds(self, settings: Rounds) -> None:
        """Open and close rounds by these settings from now on; an open one keeps its deadline."""
        self._settings = settings
        self._electorate.set_quorum(settings.quorum)

    @property
    def phase(self) -> Phase:
        """What the aggregator does now."""
        return self._phase

    @property
    def waiting(self) -> Waiting:
        """What the aggregator waits for, since when, and until when."""
        until: Monotonic | None = None
        reason = self._phase.value
        current = self._current
        if self._phase is Phase.COLLECTING and current is not None:
            until = current.deadline
            reason = current.progress(self._electorate.expected(current), self._electorate.quorum)
        elif self._phase is Phase.REPLICATING and current is not None:
            until = self._replicate.at
            reason = current.replication(len(self._stored_by), self._electorate.majority)
        elif self._phase is Phase.PREPARING and self._announcement is not None and self._head is not None:
            until = self._obtain.at
            reason = f"waiting for the committed model {short(self._head.digest)} from a peer"
        elif self._phase is Phase.RESTING:
            until = self._next_opening
            if until == float("inf"):
                reason = "waiting for another node to take over"
        return Waiting(reason, self._since, until if until is not None and math.isfinite(until) else None)

    # --- events of consensus -----------------------------------------------------------------------------------------

    def lead(
        self, term: Term, head: GlobalModel | None, now: Monotonic, *, head_is_stored: bool
    ) -> list[AggregatorAction]:
        """This node leads, and the lineage holds all that was committed before. ``head_is_stored``: its bytes too."""
        self._term = term
        self._head, self._head_is_stored = head, head_is_stored
        self._announcement = self._current = None
        self._handing_over = False
        self._next_opening = Monotonic(float("-inf"))
        self._obtain.reset()
        self._make_key(now)
        return self._advance(now)

    def stop(self, now: Monotonic) -> list[AggregatorAction]:
        """This node leads no more: give up what is under way and sleep (invariant 6)."""
        self._announcement = self._current = None
        self._handing_over = False
        self._enter(Phase.INACTIVE, now)
        return self._advance(now)

    def committed(self, model: GlobalModel, now: Monotonic) -> list[AggregatorAction]:
        """A global model was committed. While this node leads, only its own can be."""
        self._head = model
        if self._phase is not Phase.INACTIVE:
            self._head_is_stored = self._current is not None and self._current.digest == model.digest
            self._current = None
            self._enter(Phase.RESTING, now)
            self._rounds_under_key += 1
            if self._rounds_under_key >= self._key_rounds and not self._handing_over:
                self._make_key(now)
        return self._advance(now)

    def members_changed(self, members: frozenset[NodeName], now: Monotonic) -> list[AggregatorAction]:
        """Others vote in the cluster: majorities are counted among them, and only they are waited for, from now on."""
        self._electorate.set_members(members)
        self._stored_by &= members
        if self._current is not None:
            self._current.unable &= members
        return self._advance(now)

    def proposal_refused(self, now: Monotonic) -> list[AggregatorAction]:
        """Consensus took no proposal just now (leadership is moving, or its disk failed); it is made again later."""
        if self._phase is Phase.COMMITTING:
            self._enter(Phase.REPLICATING, now)
        return self._advance(now, may_propose=False)

    def hand_over(self, now: Monotonic) -> list[AggregatorAction]:
        """Open nothing new; answer with ``HandOver`` once no commit is under way. Open rounds are parked: the
        participants keep their updates for the next leader (invariant 5)."""
        self._handing_over = True
        return self._advance(now)

    def hand_over_declined(self, now: Monotonic) -> list[AggregatorAction]:
        """Consensus has nobody to hand over to (a cluster of one): lead on, with a fresh key as in a fresh term.

        Under the old key the participants have their receipts for a round that was parked: they would not deliver
        again. What failed here before, if that is why, is not tried again without a pause.
        """
        if self._phase is Phase.RESTING:
            self._obtain.schedule(now)
            self._next_opening = self._obtain.at
            self._make_key(now)
        return self._advance(now)

    # --- events of the shells ----------------------------------------------------------------------------------------

    def key_ready(self, term: Term, key_id: bytes, public_key: bytes, now: Monotonic) -> list[AggregatorAction]:
        """The key pair for this term is there."""
        if term == self._term and self._phase is not Phase.INACTIVE:
            self._announcement = Announcement(
                cluster=self._cluster, leader=self._node, term=term, key_id=key_id, public_key=public_key
            )
            self._next_beacon = now
        return self._advance(now)

    def live_changed(self, live: frozenset[NodeName], now: Monotonic) -> list[AggregatorAction]:
        """Other peers are live by heartbeat. A dead node is waited for no longer than it takes to notice."""
        self._electorate.set_live(live)
        return self._advance(now)

    def model_stored(self, digest: Digest, now: Monotonic) -> list[AggregatorAction]:
        """The bytes of a model are durable on this node."""
        if self._head is not None and self._head.digest == digest:
            self._head_is_stored = True
        return self._advance(now)

    def models_dropped(self, digests: frozenset[Digest]) -> None:
        """Models are no longer on this node's disk; the head's bytes are asked for again."""
        if self._head is not None and self._head.digest in digests:
            self._head_is_stored = False
            self._obtain.reset()

    def opened_update(self, update: OpenedUpdate, now: Monotonic) -> list[AggregatorAction]:
        """An envelope held an update: count it, or say why not (invariant 4)."""
        current = self._current
        refusal = "no round is open"
        if current is not None:
            base = None if self._head is None else self._head.digest
            refusal = current.refusal(update, base, is_open=self._phase is Phase.COLLECTING)
        if current is not None and self._phase is Phase.COLLECTING and update.round == current.round:
            if refusal:
                current.refuse(update, refusal)
            elif update.token not in current.accepted:
                current.count(update)
                self._actions.append(Count(update.handle))
        self._actions.append(Answer(update.handle, accepted=not refusal, reason=refusal))
        return self._advance(now)

    def round_begun(self, term: Term, round_: Round, token_key: bytes, now: Monotonic) -> list[AggregatorAction]:
        """The round's keys are there: it can be told."""
        if self._current is not None and self._is_current(term, round_) and self._phase is Phase.COLLECTING:
            self._current.token_key = token_key
            self._say_again(now)
        return self._advance(now)

    def token_wanted(self, member: NodeName, message: TokenWanted, now: Monotonic) -> list[AggregatorAction]:
        """A member asks for its token of the round."""
        current = self._current
        told = current is not None and current.token_key and self._is_current(message.term, message.round)
        if told and self._phase is Phase.COLLECTING and member in self._electorate.members:
            self._actions.append(SignToken(member, message.blinded))
        return self._advance(now)

    def aggregated(self, term: Term, round_: Round, digest: Digest, now: Monotonic) -> list[AggregatorAction]:
        """The candidate's bytes are durable on this node (also the answer to ``CreateInitialModel``, round 0)."""
        current = self._current
        if current is not None and self._is_current(term, round_) and self._phase is Phase.AGGREGATING:
            current.digest = digest
            self._stored_by = {
                self._node
            } & self._electorate.members  # a leader that is being removed does not count itself
            self._replicate.reset()
            self._enter(Phase.REPLICATING, now)
        return self._advance(now)

    def aggregation_failed(self, term: Term, round_: Round, reason: str, now: Monotonic) -> list[AggregatorAction]:
        """The round could not begin, or its candidate not be made, stored or judged: hand over to a node that can."""
        able = (Phase.COLLECTING, Phase.AGGREGATING, Phase.REPLICATING)
        if self._is_current(term, round_) and self._phase in able:
            self._actions.append(Note("error", f"round {round_} can't be aggregated here: {reason}; handing over"))
            self._current = None
            self._enter(Phase.RESTING, now)
            self._handing_over = True
        return self._advance(now)

    def evaluated(self, term: Term, round_: Round, metrics: Metrics, now: Monotonic) -> list[AggregatorAction]:
        """The candidate's metrics are known."""
        if self._current is not None and self._is_current(term, round_):
            self._current.metrics = metrics
        return self._advance(now)

    def stored(self, peer: NodeName, answer: Stored, now: Monotonic) -> list[AggregatorAction]:
        """A peer says that it holds a candidate durably."""
        current = self._current
        if (
            self._phase is Phase.REPLICATING
            and current is not None
            and peer in self._electorate.members
            and (answer.term, answer.round, answer.digest) == (self._term, current.round, current.digest)
        ):
            self._stored_by.add(peer)
        return self._advance(now)

    def participation(self, node: NodeName, message: Participation, now: Monotonic) -> list[AggregatorAction]:
        """A node can't take part in the round, or can again: who is live and can't is not waited for."""
        current = self._current
        if node in self._electorate.members and current is not None and self._is_current(message.term, message.round):
            (current.unable.discard if message.able else current.unable.add)(node)
        return self._advance(now)

    def finished(self, node: NodeName, message: Finished, now: Monotonic) -> list[AggregatorAction]:
        """A node has finished its update of the round, and waits until all may be sent."""
        current = self._current
        if node in self._electorate.members and current is not None and self._is_current(message.term, message.round):
            current.finished.add(node)
        return self._advance(now)

    def tick(self, now: Monotonic) -> list[AggregatorAction]:
        """Time has passed."""
        return self._advance(now)

    # --- what follows from the state ---------------------------------------------------------------------------------

    def _advance(self, now: Monotonic, *, may_propose: bool = True) -> list[AggregatorAction]:
        if self._phase is not Phase.INACTIVE:
            if self._phase is Phase.PREPARING:
                self._prepare(now)
            self._obtain_lost_head(now)
            if self._phase is Phase.RESTING and now >= self._next_opening:
                self._maybe_open(now)
            if self._phase is Phase.COLLECTING and self._current is not None:
                self._collect(self._current, now)
            if self._phase is Phase.REPLICATING and self._current is not None:
                self._replicate_candidate(self._current, now, may_propose=may_propose)
            self._maybe_hand_over(now)
            if now >= self._next_beacon:
                self._say_again(now)
        actions, self._actions = self._actions, []
        return actions

    def _prepare(self, now: Monotonic) -> None:
        if self._announcement is None or self._handing_over:
            return
        if self._head is None:
            if not self._obtain.due(now):
                return
            self._current = Collected(0, opened_at=now, deadline=now)
            self._actions.append(CreateInitialModel(self._term))
            self._enter(Phase.AGGREGATING, now)
        elif self._head_is_stored:
            self._enter(Phase.RESTING, now)

    def _obtain_lost_head(self, now: Monotonic) -> None:
        """Ask one live peer after another for the committed model's bytes; also if they were lost in mid-round."""
        able = self._announcement is not None and not self._handing_over
        able = able and bool(self._electorate.live_peers)
        if able and self._head is not None and not self._head_is_stored and self._obtain.due(now):
            peers = sorted(self._electorate.live_peers)
            self._actions.append(ObtainModel(self._head.digest, peers[self._obtain.tries % len(peers)]))
            self._obtain.schedule(now)

    def _maybe_open(self, now: Monotonic) -> None:
        head = self._head
        if head is None or not self._head_is_stored or self._announcement is None or self._handing_over:
            return
        round_ = head.round + 1
        deadline = Monotonic(now + self._settings.deadline_s)
        self._current = Collected(round_, now, deadline, self._encoding, deliver=self._window_s == 0)
        self._next_opening = Monotonic(now + self._settings.interval_s)
        self._actions.append(StartCollecting(self._term, round_, head.digest, self._encoding))
        self._enter(Phase.COLLECTING, now)

    def _make_key(self, now: Monotonic) -> None:
        """Ask for a fresh key: nothing under the old one can count any more, and no round opens until it is there."""
        self._announcement = None
        self._rounds_under_key = 0
        self._enter(Phase.PREPARING, now)
        self._actions.append(MakeLeaderKey(self._term))

    def _let_deliver(self, current: Collected, now: Monotonic) -> None:
        """Let the updates come once nobody is waited for, or while there is just time enough before the deadline."""
        last_call = current.deadline - min(self._window_s + LAST_CALL_S, self._settings.deadline_s / 2)
        if not current.deliver and (now >= last_call or not self._electorate.still_trains(current)):
            current.deliver = True
            self._say_again(now)

    def _collect(self, current: Collected, now: Monotonic) -> None:
        self._let_deliver(current, now)
        enough = len(current.accepted) >= self._electorate.quorum
        all_live = current.answered >= self._electorate.expected(current)
        if enough and (all_live or now >= current.deadline):
            current.expected = self._electorate.expected(current)
            self._actions.append(Aggregate(self._term, current.round))
            self._enter(Phase.AGGREGATING, now)
        elif now >= current.deadline:
            current.extensions += 1
            current.deadline = Monotonic(now + self._settings.deadline_s)
            text = current.below_quorum(self._electorate.quorum, self._settings.deadline_s)
            self._actions.append(Note("warning", text))

    def _replicate_candidate(self, current: Collected, now: Monotonic, *, may_propose: bool) -> None:
        digest, metrics = current.digest, current.metrics
        if digest is None:
            return
        if len(self._stored_by) >= self._electorate.majority and metrics is not None and may_propose:
            model = current.as_global_model(self._term, self._head, digest, metrics, now)
            self._actions.append(Propose(msgspec.structs.replace(model, task=self._task)))
            self._enter(Phase.COMMITTING, now)
        if self._replicate.due(now) and len(self._stored_by) < len(self._electorate.members):
            first = self._replicate.tries == 0
            self._replicate.schedule(now)
            version = 0 if self._head is None else self._head.version + 1
            candidate = Candidate(self._cluster, self._node, self._term, current.round, version, digest)
            missing = frozenset(self._electorate.members - self._stored_by)
            self._actions.append(Say(candidate, to=missing, with_body=first and current.round > 0))

    def _maybe_hand_over(self, now: Monotonic) -> None:
        if self._handing_over and self._phase in (Phase.PREPARING, Phase.RESTING, Phase.COLLECTING):
            self._handing_over = False
            self._current = None
            self._next_opening = Monotonic(float("inf"))
            self._enter(Phase.RESTING, now)
            self._actions.append(HandOver())

    def _is_current(self, term: Term, round_: Round) -> bool:
        return term == self._term and self._current is not None and self._current.round == round_

    def _say_again(self, now: Monotonic) -> None:
        """Say the key and the open round to all; both are idempotent."""
        self._next_beacon = Monotonic(now + BEACON_S)
        if self._announcement is None:
            return
        statements: list[LeaderStatement] = [self._announcement]
        current, head = self._current, self._head
        if self._phase is Phase.COLLECTING and current is not None and current.token_key and head is not None:
            counts = (self._electorate.expected(current), self._electorate.quorum)
            statements.append(current.as_opening(self._announcement, head, *counts, now))
        self._actions.extend(Say(statement) for statement in statements)

    def _enter(self, phase: Phase, now: Monotonic) -> None:
        self._phase, self._since = phase, now
