"""The aggregator's side of a round: open, collect, aggregate, make durable on a majority, commit."""

import math

from appliance.rounds import actions as do
from appliance.rounds.announcing import Announcing
from appliance.rounds.collected import Collected, InTheOpen, Judged, OpenedUpdate, Phase
from appliance.rounds.electorate import Electorate
from appliance.rounds.head import Head
from appliance.rounds.retry import Retry
from appliance.words.ids import Digest, Monotonic, NodeName, Round, Term, short
from appliance.words.messages import Finished, Participation, Stored, TokenWanted
from appliance.words.models import Encoding, GlobalModel
from appliance.words.settings import Rounds

LAST_CALL_S = 5.0
"""Before the deadline, beside the window: time for the way and the receipts of those that have finished."""


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
        transfer_s: float = 0.0,
        key_rounds: int,
        least_updates: int = 1,
        task: str = "",
        encoding: Encoding = "float32",
        most_drop: float = 1.0,
    ) -> None:
        """Begin inactive. ``settings.quorum`` of None is a majority of the members.

        Args:
            window_s: when all have finished, their updates come within this time; 0: each comes when it is finished.
            transfer_s: a model may well be on its way for so long.
            key_rounds: a fresh key after this many rounds.
            least_updates: what the strategy needs: the quorum is never below it, even with members removed.
            task: the fingerprint of this node's task, for the lineage.
            encoding: of the updates in the rounds that are opened here.
            most_drop: a model whose accuracy is lower than its base's by more than this is not published.
        """
        self._node = node
        self._cluster = cluster
        self._task = task
        self._settings = settings
        self._window_s = window_s
        self._last_call_s = window_s + transfer_s + LAST_CALL_S
        self._encoding = encoding
        self._most_drop = most_drop
        self._announcing = Announcing(cluster, node, key_rounds)
        self._electorate = Electorate(node, members, settings.quorum, least_updates)
        self._phase = Phase.INACTIVE
        self._since = Monotonic(0.0)
        self._term: Term = 0
        self._head = Head(transfer_s)
        self._current: Collected | None = None
        self.rollback: GlobalModel | None = None
        """The entry that an operator asked to go back to, until that is committed or given up."""
        self._next_opening = Monotonic(float("-inf"))
        self._replicate = Retry(first_s=transfer_s + 1.0, most_s=transfer_s + 10.0)
        self._handing_over = False
        self._actions: list[do.AggregatorAction] = []

    def set_rounds(self, settings: Rounds) -> None:
        """Open and close rounds by these settings from now on; an open one keeps its deadline."""
        self._settings = settings
        self._electorate.set_quorum(settings.quorum)

    @property
    def phase(self) -> Phase:
        """What the aggregator does now."""
        return self._phase

    @property
    def waiting(self) -> do.Waiting:
        """What the aggregator waits for, since when, and until when."""
        until: Monotonic | None = None
        reason = self._phase.value
        current = self._current
        if self._phase is Phase.COLLECTING and current is not None:
            until = current.deadline
            reason = current.progress(self._electorate.expected(current), self._electorate.quorum)
        elif self._phase is Phase.REPLICATING and current is not None:
            until = self._replicate.at
            reason = current.replication(self._electorate.majority)
        elif self._phase is Phase.PREPARING and self._announcing.announcement and self._head.digest:
            until = self._head.obtain.at
            reason = f"waiting for the committed model {short(self._head.digest)} from a peer"
        elif self._phase is Phase.RESTING:
            until = self._next_opening
            if until == float("inf"):
                reason = "waiting for another node to take over"
        return do.Waiting(reason, self._since, until if until is not None and math.isfinite(until) else None)

    # --- events of consensus -----------------------------------------------------------------------------------------

    def lead(
        self, term: Term, head: GlobalModel | None, now: Monotonic, *, head_is_stored: bool
    ) -> list[do.AggregatorAction]:
        """This node leads, and the lineage holds all that was committed before. ``head_is_stored``: its bytes too."""
        self._term = term
        self._head.begin(head, is_stored=head_is_stored)
        self._current = self.rollback = None
        self._handing_over = False
        self._next_opening = Monotonic(float("-inf"))
        self._make_key(now)
        return self._advance(now)

    def stop(self, now: Monotonic) -> list[do.AggregatorAction]:
        """This node leads no more: give up what is under way and sleep (invariant 6)."""
        self._announcing.announcement = None
        self._current = self.rollback = None
        self._handing_over = False
        self._enter(Phase.INACTIVE, now)
        return self._advance(now)

    def committed(self, model: GlobalModel, now: Monotonic) -> list[do.AggregatorAction]:
        """A global model was committed. While this node leads, only its own can be."""
        if self._phase is not Phase.INACTIVE:
            self._head.committed(model, None if self._current is None else self._current.digest)
            self._current = None
            if model.rolled_back_to is not None:
                self.rollback = None
            self._enter(Phase.RESTING, now)
            if self._announcing.round_done() and not self._handing_over:
                self._make_key(now)
        return self._advance(now)

    def members_changed(self, members: frozenset[NodeName], now: Monotonic) -> list[do.AggregatorAction]:
        """Others vote in the cluster: majorities are counted among them, and only they are waited for, from now on."""
        self._electorate.set_members(members)
        if self._current is not None:
            self._current.unable &= members
            self._current.stored_by &= members
        return self._advance(now)

    def proposal_refused(self, now: Monotonic) -> list[do.AggregatorAction]:
        """Consensus took no proposal just now (leadership is moving, or its disk failed); it is made again later."""
        if self._phase is Phase.COMMITTING:
            self._enter(Phase.REPLICATING, now)
        return self._advance(now, may_propose=False)

    def hand_over(self, now: Monotonic) -> list[do.AggregatorAction]:
        """Open nothing new; answer with ``HandOver`` once no commit is under way. Open rounds are parked: the
        participants keep their updates for the next leader (invariant 5)."""
        self._handing_over = True
        return self._advance(now)

    def hand_over_declined(self, now: Monotonic) -> list[do.AggregatorAction]:
        """Consensus has nobody to hand over to (a cluster of one): lead on, with a fresh key as in a fresh term.

        Under the old key the participants have their receipts for a round that was parked: they would not deliver
        again. What failed here before, if that is why, is not tried again without a pause.
        """
        if self._phase is Phase.RESTING:
            self._head.obtain.schedule(now)
            self._next_opening = self._head.obtain.at
            self._make_key(now)
        return self._advance(now)

    def roll_back(self, target: GlobalModel, now: Monotonic) -> list[do.AggregatorAction]:
        """An operator asks that the model of an earlier entry, whose bytes are here, become the head again.

        It takes the place of the round that is open or to come; one whose candidate is on its way is committed before.
        The participants forget what they trained for that round once the rollback is committed: its base is gone.
        """
        self.rollback = target
        return self._advance(now)

    # --- events of the shells ----------------------------------------------------------------------------------------

    def key_ready(self, term: Term, key_id: bytes, public_key: bytes, now: Monotonic) -> list[do.AggregatorAction]:
        """The key pair for this term is there."""
        if term == self._term and self._phase is not Phase.INACTIVE:
            self._announcing.made(term, key_id, public_key, now)
        return self._advance(now)

    def live_changed(self, live: frozenset[NodeName], now: Monotonic) -> list[do.AggregatorAction]:
        """Other peers are live by heartbeat. A dead node is waited for no longer than it takes to notice."""
        self._electorate.set_live(live)
        return self._advance(now)

    def model_stored(self, digest: Digest, now: Monotonic) -> list[do.AggregatorAction]:
        """The bytes of a model are durable on this node."""
        self._head.stored(digest)
        if self._current is not None and self._current.digest == digest:
            self._current.stored_by |= self._electorate.me
        return self._advance(now)

    def models_dropped(self, digests: frozenset[Digest]) -> None:
        """Models are no longer on this node's disk; the head's bytes are asked for again."""
        self._head.dropped(digests)
        if self._current is not None and self._current.digest in digests:
            self._current.stored_by.discard(self._node)

    def opened_update(self, update: OpenedUpdate, now: Monotonic) -> list[do.AggregatorAction]:
        """An envelope held an update: count it, or say why not (invariant 4)."""
        current = self._current
        refusal = "no round is open"
        if current is not None:
            refusal = current.refusal(update, self._head.digest, is_open=self._phase is Phase.COLLECTING)
        if current is not None and self._phase is Phase.COLLECTING and update.round == current.round:
            if refusal:
                current.refuse(update, refusal)
            elif update.token not in current.accepted:
                current.count(update)
                self._actions.append(do.Count(update.handle))
        self._actions.append(do.Answer(update.handle, accepted=not refusal, reason=refusal))
        return self._advance(now)

    def round_begun(self, term: Term, round_: Round, token_key: bytes, now: Monotonic) -> list[do.AggregatorAction]:
        """The round's keys are there: it can be told."""
        if self._current is not None and self._is_current(term, round_) and self._phase is Phase.COLLECTING:
            self._current.token_key = token_key
            self._say_again(now)
        return self._advance(now)

    def aggregated(self, term: Term, round_: Round, made: Judged, now: Monotonic) -> list[do.AggregatorAction]:
        """The candidate, the initial model, or what ``BringBack`` asked for is durable on this node, and judged."""
        current = self._current
        if current is not None and self._is_current(term, round_) and self._phase is Phase.AGGREGATING:
            current.digest, current.metrics = made.digest, made.metrics
            if self._head.model is not None and (why := current.compare(self._head.model, made, self._most_drop)):
                self._actions.append(do.Note("warning", why))
            if not current.withheld or self._head.is_stored:
                current.stored_by |= self._electorate.me
            self._replicate.reset()
            self._enter(Phase.REPLICATING, now)
        return self._advance(now)

    def aggregation_failed(self, term: Term, round_: Round, reason: str, now: Monotonic) -> list[do.AggregatorAction]:
        """The round could not begin, or its candidate not be made, stored or judged: hand over to a node that can."""
        current = self._current
        if current is None or not self._is_current(term, round_):
            return self._advance(now)
        if self._phase is Phase.AGGREGATING and current.rolled_back_to is not None:
            text = f"the rollback to version {current.rolled_back_to} can't be made here: {reason}; nothing has changed"
            self._actions.append(do.Note("error", text))
            self._current = self.rollback = None
            self._make_key(now)  # as after every parked round: the participants have receipts under the old one
        elif self._phase in (Phase.COLLECTING, Phase.AGGREGATING):
            self._actions.append(do.Note("error", f"round {round_} can't be aggregated here: {reason}; handing over"))
            self._current = None
            self._enter(Phase.RESTING, now)
            self._handing_over = True
        return self._advance(now)

    def told(self, member: NodeName, message: InTheOpen, now: Monotonic) -> list[do.AggregatorAction]:
        """A member says how it stands in a round. Of another one than this, or by a stranger, it means nothing."""
        current = self._current
        is_ours = member in self._electorate.members and self._is_current(message.term, message.round)
        if current is None or not is_ours:
            return self._advance(now)
        match message:
            case Stored(digest=digest) if self._phase is Phase.REPLICATING and digest == current.digest:
                current.stored_by.add(member)
            case Participation(able=able):  # who is live and can't take part is not waited for
                (current.unable.discard if able else current.unable.add)(member)
            case Finished():
                current.finished.add(member)
            case TokenWanted(blinded=blinded) if self._phase is Phase.COLLECTING and current.token_key:
                self._actions.append(do.SignToken(member, blinded))
        return self._advance(now)

    def tick(self, now: Monotonic) -> list[do.AggregatorAction]:
        """Time has passed."""
        return self._advance(now)

    # --- what follows from the state ---------------------------------------------------------------------------------

    def _advance(self, now: Monotonic, *, may_propose: bool = True) -> list[do.AggregatorAction]:
        if self._phase is not Phase.INACTIVE:
            if self._phase is Phase.PREPARING:
                self._prepare(now)
            self._obtain_lost_head(now)
            self._maybe_roll_back(now)
            if self._phase is Phase.RESTING and now >= self._next_opening:
                self._maybe_open(now)
            if self._phase is Phase.COLLECTING and self._current is not None:
                self._collect(self._current, now)
            if self._phase is Phase.REPLICATING and self._current is not None:
                self._replicate_candidate(self._current, now, may_propose=may_propose)
            self._maybe_hand_over(now)
            if self._announcing.is_due(now):
                self._say_again(now)
        actions, self._actions = self._actions, []
        return actions

    def _prepare(self, now: Monotonic) -> None:
        if self._announcing.announcement is None or self._handing_over:
            return
        if self._head.model is None and self._head.obtain.due(now):
            self._current = Collected(0, opened_at=now, deadline=now)
            self._actions.append(do.CreateInitialModel(self._term))
            self._enter(Phase.AGGREGATING, now)
        elif self._head.is_stored:
            self._enter(Phase.RESTING, now)

    def _obtain_lost_head(self, now: Monotonic) -> None:
        """Ask for the committed model's bytes; also if they were lost in mid-round."""
        able = self._announcing.announcement is not None and not self._handing_over
        if able and (ask := self._head.missing_from(self._electorate.live_peers, now)) is not None:
            self._actions.append(ask)

    def _maybe_open(self, now: Monotonic) -> None:
        head = self._head.model
        is_able = self._head.is_stored and self._announcing.announcement is not None and not self._handing_over
        if head is None or not is_able:
            return
        round_ = head.round + 1
        deadline = Monotonic(now + self._settings.deadline_s)
        self._current = Collected(round_, now, deadline, self._encoding, deliver=self._window_s == 0)
        self._next_opening = Monotonic(now + self._settings.interval_s)
        self._actions.append(do.StartCollecting(self._term, round_, head.digest, self._encoding))
        self._enter(Phase.COLLECTING, now)

    def _maybe_roll_back(self, now: Monotonic) -> None:
        """Give up the open round for the rollback that was asked for. A node that hands over begins none."""
        target, head = self.rollback, self._head.model
        is_leaving = self._handing_over or self._next_opening == float("inf")
        if target is None or head is None or is_leaving or self._phase not in (Phase.RESTING, Phase.COLLECTING):
            return
        self._current = Collected(head.round + 1, opened_at=now, deadline=now, rolled_back_to=target.version)
        self._actions.append(do.BringBack(self._term, head.round + 1, target.digest))
        self._enter(Phase.AGGREGATING, now)

    def _make_key(self, now: Monotonic) -> None:
        """Ask for a fresh key; no round opens until it is there."""
        self._actions.append(self._announcing.renew(self._term))
        self._enter(Phase.PREPARING, now)

    def _let_deliver(self, current: Collected, now: Monotonic) -> None:
        """Let the updates come once nobody is waited for, or while there is just time enough before the deadline."""
        last_call = current.deadline - min(self._last_call_s, self._settings.deadline_s / 2)
        if not current.deliver and (now >= last_call or not self._electorate.still_trains(current)):
            current.deliver = True
            self._say_again(now)

    def _collect(self, current: Collected, now: Monotonic) -> None:
        self._let_deliver(current, now)
        enough = len(current.accepted) >= self._electorate.quorum
        all_live = current.answered >= self._electorate.expected(current)
        if enough and (all_live or now >= current.deadline):
            current.expected = self._electorate.expected(current)
            self._actions.append(do.Aggregate(self._term, current.round))
            self._enter(Phase.AGGREGATING, now)
        elif now >= current.deadline:
            too_early = current.extend(self._electorate.quorum, self._settings.deadline_s, now)
            self._actions.append(do.Note("warning", too_early))

    def _replicate_candidate(self, current: Collected, now: Monotonic, *, may_propose: bool) -> None:
        digest, metrics = current.digest, current.metrics
        if digest is None or metrics is None:
            return
        if len(current.stored_by) >= self._electorate.majority and may_propose:
            entry = current.as_global_model(self._term, self._head.model, digest, metrics, now, task=self._task)
            self._actions.append(do.Propose(entry))
            self._enter(Phase.COMMITTING, now)
        if self._replicate.due(now) and (missing := self._electorate.members - current.stored_by - {self._node}):
            # With its body where nobody can have it yet, but for the initial one: no receipt has brought a key for it.
            with_body = self._replicate.tries == 0 and current.round > 0 and current.is_new
            self._replicate.schedule(now)
            candidate = current.as_candidate(self._cluster, self._node, self._term, self._head.model, digest)
            self._actions.append(do.Say(candidate, to=missing, with_body=with_body))

    def _maybe_hand_over(self, now: Monotonic) -> None:
        if self._handing_over and self._phase in (Phase.PREPARING, Phase.RESTING, Phase.COLLECTING):
            self._handing_over = False
            self._current = self.rollback = None
            self._next_opening = Monotonic(float("inf"))
            self._enter(Phase.RESTING, now)
            self._actions.append(do.HandOver())

    def _is_current(self, term: Term, round_: Round) -> bool:
        return term == self._term and self._current is not None and self._current.round == round_

    def _say_again(self, now: Monotonic) -> None:
        """Say the key and the open round to all; both are idempotent."""
        announcement = self._announcing.say(now)
        if announcement is None:
            return
        self._actions.append(do.Say(announcement))
        current, head = self._current, self._head.model
        if self._phase is Phase.COLLECTING and current is not None and current.token_key and head is not None:
            counts = (self._electorate.expected(current), self._electorate.quorum)
            self._actions.append(do.Say(current.as_opening(announcement, head, *counts, now)))

    def _enter(self, phase: Phase, now: Monotonic) -> None:
        self._phase, self._since = phase, now
