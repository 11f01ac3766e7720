"""The participant's side of a round: fetch the base, train, deliver, keep until committed (paper: S1 to S4)."""

from dataclasses import dataclass

from appliance.rounds.actions import (
    AskToken,
    Deliver,
    Fetch,
    Forget,
    Note,
    ParticipantAction,
    StoreCandidate,
    Tell,
    Waiting,
)
from appliance.rounds.retry import Retry
from appliance.rounds.step import UNABLE, Step
from appliance.rounds.training import FAILURE_RETRY_S, Closed, TrainingUnderWay
from appliance.words.ids import Digest, Monotonic, Round, Term, short
from appliance.words.messages import Announcement, Candidate, Finished, Opening, Participation, Stored
from appliance.words.models import GlobalModel

ANSWER_S = 3.0
"""How long an answer of the leader is waited for at first."""


@dataclass(frozen=True, slots=True)
class FinishedUpdate:
    """What is known of the finished update on disk: enough to see which round it is for."""

    update_id: bytes
    round: Round
    base: Digest


@dataclass(frozen=True, slots=True)
class _Receipt:
    update_id: bytes
    key_id: bytes
    accepted: bool
    reason: str


class Participant:
    """One node's training side. Events in, actions out; no clock, no thread, no bytes of any model.

    Each event returns the actions that it calls for. The shell may repeat or lose any message: what matters is asked
    for again, at growing intervals, until the round is committed or replaced (invariant 5).
    """

    def __init__(
        self,
        kept: FinishedUpdate | None,
        stored: frozenset[Digest],
        now: Monotonic,
        *,
        window_s: float,
        transfer_s: float = 0.0,
    ) -> None:
        """Begin with what the disk holds: a finished update, or None, and the models whose bytes are there.

        Args:
            window_s: an update leaves at a random moment within this time.
            transfer_s: a model may well be on its way for so long; sooner none is sent or asked for again.
        """
        self._window_s = window_s
        self._kept = kept
        self._stored = set(stored)
        self._committed_round: Round = -1
        self._announcement: Announcement | None = None
        self._opening: Opening | None = None
        self._deadline = now
        self._candidate: Candidate | None = None
        self._has_body = False
        self._said_unable = False
        self.excluded = ""
        """Why this node takes part in no round, ever; empty if it may."""
        self._training = TrainingUnderWay()
        self._storing_retry = Retry(first_s=FAILURE_RETRY_S, most_s=60.0)
        self._receipt: _Receipt | None = None
        self._fetch = Retry(first_s=transfer_s + ANSWER_S, most_s=transfer_s + 30.0)
        self._fetching: Digest | None = None
        self._storing: Digest | None = None
        self._ask_token = Retry(first_s=1.0, most_s=10.0)
        self._token_key = b""
        self._tell_finished = Retry(first_s=ANSWER_S, most_s=30.0)
        self._delivery = Retry(first_s=window_s + transfer_s + ANSWER_S, most_s=window_s + transfer_s + 30.0)
        self._step = Step.NO_LEADER
        self._since = now
        self._actions: list[ParticipantAction] = []

    @property
    def step(self) -> Step:
        """Where this participant stands."""
        return self._step

    @property
    def kept_round(self) -> Round | None:
        """The round of the finished update that is kept."""
        return None if self._kept is None else self._kept.round

    @property
    def opening(self) -> Opening | None:
        """The round that is open, as the leader last said it."""
        return self._opening

    @property
    def waiting(self) -> Waiting:
        """What this participant waits for, since when, and until when."""
        reason, until = self._step.value, None
        opening = self._opening
        if self._step is Step.TRAINING and self._training.what:
            reason = f"training for round {self._training.what[0]}"
        elif self._step is Step.FETCHING and self._fetching:
            reason, until = f"waiting for model {short(self._fetching)} from the leader", self._fetch.at
        elif self._step is Step.TOKENLESS:
            until = self._ask_token.at
        elif self._step is Step.FINISHED:
            until = self._deadline
        elif self._step is Step.DELIVERING:
            times = "once" if self._delivery.tries == 1 else f"{self._delivery.tries} times"
            reason, until = f"waiting for the leader's receipt (sent {times})", self._delivery.at
        elif self._step is Step.DELIVERED and opening:
            until = self._deadline
            reason = (
                f"waiting for round {opening.round} to close: {opening.accepted} of {opening.expected} updates "
                f"(quorum {opening.quorum})"
            )
        elif self._step is Step.REFUSED and self._receipt:
            reason, until = f"update refused ({self._receipt.reason}), waiting for the next round", self._deadline
        elif self._step is Step.EXCLUDED:
            reason = f"{reason}: {self.excluded}"
        elif self._step is Step.FAILED:
            until = max(self._training.retry.at, self._storing_retry.at)
        elif self._step is Step.CLOSED and self._training.closed:
            closed = self._training.closed
            reason, until = f"waiting for the training hours (next: {closed.opens})", closed.until
        return Waiting(reason, self._since, until)

    def exclude(self, reason: str) -> None:
        """Take part in no round: this node has another task than the cluster. It still stores what is committed."""
        self.excluded = reason

    def leader_changed(self, now: Monotonic) -> list[ParticipantAction]:
        """Consensus has another leader, or none: what the old one said no longer holds. Training goes on."""
        self._announcement = self._opening = self._candidate = None
        self._receipt = None
        self._said_unable = False
        return self._advance(now)

    def announced(self, announcement: Announcement, now: Monotonic) -> list[ParticipantAction]:
        """The leader of this term said its key (caller has checked signature, name and term)."""
        self._announcement = announcement
        return self._advance(now)

    def opened(self, opening: Opening, now: Monotonic) -> list[ParticipantAction]:
        """The leader of this term said which round is open, and how far it is."""
        if opening.round > self._committed_round:
            self._opening = opening
            if self._step in UNABLE:
                self._said_unable = False  # the leader says the round again each second: so does this node
            self._deadline = Monotonic(now + opening.deadline_s)
        return self._advance(now)

    def candidate(self, candidate: Candidate, now: Monotonic, *, with_body: bool) -> list[ParticipantAction]:
        """The leader asks that an aggregated model be made durable (invariant 3)."""
        self._candidate = candidate
        self._has_body = with_body
        if candidate.digest in self._stored:
            self._answer_stored(candidate)
        elif with_body and self._receipt is not None:
            self._store(candidate.digest)
        else:
            self._fetch_model(candidate.digest)
            if with_body and self._step is Step.DELIVERING:
                # The receipt with the round key is on its way, often just behind: give it a moment.
                self._fetch.put_off(Monotonic(now + ANSWER_S))
        return self._advance(now)

    def candidate_unreadable(self, digest: Digest, now: Monotonic) -> list[ParticipantAction]:
        """The body could not be opened or stored: ask for the model by digest instead."""
        self._stores_no_more(digest)
        if self._candidate is not None and self._candidate.digest == digest:
            self._fetch_model(digest)
        return self._advance(now)

    def model_stored(self, digest: Digest, now: Monotonic) -> list[ParticipantAction]:
        """A model's bytes are durable on this node."""
        self._stored.add(digest)
        self._stores_no_more(digest)
        self._storing_retry.reset()
        if self._fetching == digest:
            self._fetching = None
            self._training.retry.reset()  # what training failed for may have been just this
        if self._candidate is not None and self._candidate.digest == digest:
            self._answer_stored(self._candidate)
        return self._advance(now)

    def storing_failed(self, now: Monotonic) -> list[ParticipantAction]:
        """A model's bytes can't be made durable here, so this node can't train on them; tried again after a while."""
        self._fetching = None
        self._storing_retry.schedule(now)
        return self._advance(now)

    def models_dropped(self, digests: frozenset[Digest]) -> None:
        """Old or damaged models are no longer on disk."""
        self._stored -= digests

    def trained(self, kept: FinishedUpdate, now: Monotonic) -> list[ParticipantAction]:
        """Training finished and its update is durable."""
        self._training.end()
        self._training.retry.reset()
        self._kept = kept
        if kept.round <= self._committed_round:
            self._forget(kept, None)
        return self._advance(now)

    def training_failed(self, reason: str, now: Monotonic) -> list[ParticipantAction]:
        """Training could not be done or its update not be kept; it is tried again after a while."""
        self._training.end()
        self._training.retry.schedule(now)
        wait = self._training.retry.at - now
        self._actions.append(Note("error", f"training failed: {reason}; it is tried again in {wait:.0f} s"))
        return self._advance(now)

    def training_stopped(self, now: Monotonic) -> list[ParticipantAction]:
        """Training ended early because ``StopTraining`` or ``PauseTraining`` asked for it."""
        self._training.end()
        return self._advance(now)

    def hours_changed(self, closed: Closed | None, now: Monotonic) -> list[ParticipantAction]:
        """It is outside the training hours, and until when; or, with None, this node may train."""
        if (closed is None) is not (self._training.closed is None):
            text = "the training hours have begun" if closed is None else f"no training before {closed.opens}"
            self._actions.append(Note("info", text))
        self._training.closed = closed
        return self._advance(now)

    def received(
        self, update_id: bytes, key_id: bytes, now: Monotonic, *, accepted: bool, reason: str
    ) -> list[ParticipantAction]:
        """A receipt was opened; ``key_id`` is the leader key that the update was sealed to."""
        if self._kept is not None and update_id == self._kept.update_id:
            self._open_waiting_candidate()
            known = self._receipt is not None and self._receipt.key_id == key_id
            # It goes to the log and to terminals, and another node wrote it.
            reason = "".join(char if char.isprintable() else "?" for char in reason)
            self._receipt = _Receipt(update_id, key_id, accepted, reason)
            if not accepted and not known:
                self._actions.append(
                    Note("warning", f"the leader refused our update for round {self._kept.round}: {reason}")
                )
        return self._advance(now)

    def token_received(self, token_key: bytes, now: Monotonic) -> list[ParticipantAction]:
        """The token of the round with this token key is here."""
        self._token_key = token_key
        return self._advance(now)

    def committed(self, model: GlobalModel, now: Monotonic) -> list[ParticipantAction]:
        """A global model was committed."""
        self._committed_round = model.round
        if self._kept is not None and self._kept.round <= model.round:
            counted = model.round == self._kept.round and model.has_updates
            self._forget(self._kept, model.term if counted else None)
        if self._opening is not None and self._opening.round <= model.round:
            self._opening = None
            self._said_unable = False  # that was about this round
        if self._candidate is not None and self._candidate.round <= model.round:
            self._candidate = None
        return self._advance(now)

    def tick(self, now: Monotonic) -> list[ParticipantAction]:
        """Time has passed: ask again for what did not come."""
        return self._advance(now)

    # --- what follows from the state ---------------------------------------------------------------------------------

    def _advance(self, now: Monotonic) -> list[ParticipantAction]:
        step = self._next_step(now)
        if step is not self._step:
            self._step, self._since = step, now
        self._say_whether_able()
        self._ask_for_token(now)
        if self._fetching is not None and self._fetching not in self._wanted():
            self._fetching = None
        if self._fetching is not None and self._announcement is not None and self._fetch.due(now):
            self._fetch.schedule(now)
            self._actions.append(Fetch(self._fetching))
        actions, self._actions = self._actions, []
        return actions

    def _say_whether_able(self) -> None:
        """A node that can't train now says so, that the round need not wait for it; and takes it back in time."""
        opening = self._opening
        unable = self._step in UNABLE
        if opening is not None and unable != self._said_unable:
            self._said_unable = unable
            self._actions.append(Tell(opening.leader, Participation(opening.term, opening.round, able=not unable)))

    def _ask_for_token(self, now: Monotonic) -> None:
        """From the opening on, whatever the training does: when it is asked for says nothing about an update."""
        opening = self._opening
        if opening is None or self.excluded or self._token_key == opening.token_key:
            return
        if self._ask_token.takes(opening.token_key, now):
            self._actions.append(AskToken(opening.leader, opening.term, opening.round, opening.token_key))

    def _wanted(self) -> set[Digest]:
        """Return the models that are of use here now: a candidate that is given up is not asked for any more."""
        opening, candidate = self._opening, self._candidate
        return ({opening.base} if opening else set()) | ({candidate.digest} if candidate else set())

    def _next_step(self, now: Monotonic) -> Step:
        opening = self._opening
        over = self._training.ending(opening, self._committed_round, excluded=bool(self.excluded))
        if over is not None:
            self._actions.append(over)
        if self.excluded:
            return Step.EXCLUDED
        if self._training.what is not None:
            return Step.TRAINING
        if self._announcement is None:
            return Step.NO_LEADER
        if opening is None or opening.key_id != self._announcement.key_id:
            return Step.NO_ROUND
        if self._kept is not None and (self._kept.round, self._kept.base) == (opening.round, opening.base):
            return self._deliver(self._kept, opening, now)
        return self._train(opening, now)

    def _train(self, opening: Opening, now: Monotonic) -> Step:
        if self._training.closed is not None:
            return Step.CLOSED
        if not self._storing_retry.due(now) or opening.base not in self._stored:
            return self._obtain_base(opening, now)
        if not self._training.retry.due(now):
            return Step.FAILED
        self._actions.append(self._training.begin(opening.round, opening.base))
        return Step.TRAINING

    def _obtain_base(self, opening: Opening, now: Monotonic) -> Step:
        if not self._storing_retry.due(now):
            return Step.FAILED
        self._fetch_model(opening.base)
        return Step.FETCHING

    def _deliver(self, kept: FinishedUpdate, opening: Opening, now: Monotonic) -> Step:
        receipt = self._receipt
        if receipt is not None and (receipt.update_id, receipt.key_id) == (kept.update_id, opening.key_id):
            return Step.DELIVERED if receipt.accepted else Step.REFUSED
        if opening.encoding != "float32" and opening.base not in self._stored:
            return self._obtain_base(opening, now)  # what is sent is the difference to it
        target = (kept.update_id, opening.key_id)
        if self._token_key != opening.token_key:
            return Step.TOKENLESS
        if not opening.deliver:
            if self._tell_finished.takes(target, now):
                self._actions.append(Tell(opening.leader, Finished(opening.term, opening.round)))
            return Step.FINISHED
        if self._delivery.takes(target, now):
            # Not past the deadline, for the sake of being hard to tell: half the time that is left is for the way.
            within_s = min(self._window_s, max(0.0, self._deadline - now) / 2)
            self._actions.append(Deliver(kept.update_id, opening.token_key, opening.encoding, within_s))
        return Step.DELIVERING

    def _open_waiting_candidate(self) -> None:
        """The first receipt brings the round key, and the candidate's body may be here already."""
        candidate = self._candidate
        if candidate is not None and self._has_body and self._receipt is None and candidate.digest not in self._stored:
            self._store(candidate.digest)

    def _store(self, digest: Digest) -> None:
        if self._storing != digest:
            self._storing = digest
            self._actions.append(StoreCandidate(digest))

    def _stores_no_more(self, digest: Digest) -> None:
        if self._storing == digest:
            self._storing = None

    def _fetch_model(self, digest: Digest) -> None:
        if digest not in {self._fetching, self._storing}:
            self._fetching = digest
            self._fetch.reset()

    def _answer_stored(self, candidate: Candidate) -> None:
        self._actions.append(Tell(candidate.leader, Stored(candidate.term, candidate.round, candidate.digest)))

    def _forget(self, kept: FinishedUpdate, term: Term | None) -> None:
        self._actions.append(Forget(kept.update_id, term))
        self._kept = None
        self._receipt = None
