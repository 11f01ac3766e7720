"""The participant's side of a node: carries out what its core asks for, and feeds it what comes of that."""

import functools
import logging
from collections.abc import Callable

from appliance.node.core import NodeCore
from appliance.node.errands import Errands
from appliance.node.outbound import Outbound
from appliance.node.outlets import CarryOut, ignore
from appliance.node.participant_work import OpenedReceipt
from appliance.node.shells import Shells
from appliance.rounds import actions as do
from appliance.rounds.participant import FinishedUpdate
from appliance.words.errors import RemoteError, StateError
from appliance.words.ids import Digest, Monotonic, NodeName, Round, short
from appliance.words.messages import Announcement, Candidate, LeaderStatement, Sealed, TokenSigned
from appliance.words.parts import NOTHING

log = logging.getLogger(__name__)


class Participating:
    """Trains, seals and delivers; opens answers and candidates. Its methods run on the event loop.

    Args:
        carry_out: takes the actions that follow from an event.
    """

    def __init__(
        self, core: NodeCore, shells: Shells, errands: Errands, outbound: Outbound, *, carry_out: CarryOut
    ) -> None:
        self._core = core
        self._shells = shells
        self._work = shells.participant_work
        self._errands = errands
        self._carry_out = carry_out
        self._outbound = outbound
        self._announcement: Announcement | None = None
        self._asked: do.AskToken | None = None
        self._round_key = b""
        self._candidate_body: tuple[Digest, memoryview] | None = None

    def forget_leader(self) -> None:
        """Another node leads, or none: what was sealed to the old key would be opened by nobody."""
        self._announcement = None

    def lineage_went_on(self, round_: Round) -> None:
        """This round is committed: its candidate is of no use any more, nor is what was begun for it."""
        self._candidate_body = None
        if self._work.has_checkpoint(round_):
            self._errands.aside(functools.partial(self._work.drop_checkpoint, round_, self._tell_checkpoint), ignore)

    def heard(self, statement: LeaderStatement, body: memoryview) -> None:
        """Keep what the leader of the present term says: its key, and a candidate's sealed bytes."""
        if statement.leader != self._core.leader:
            return
        if isinstance(statement, Announcement) and statement.term == self._core.term:
            if self._announcement is None:
                log.info(
                    "%s announced its key for term %d",
                    statement.leader,
                    statement.term,
                    extra={"peer": statement.leader, "term": statement.term},
                )
            self._announcement = statement
            self._outbound.leader_key_id = statement.key_id
        if isinstance(statement, Candidate) and body:
            self._candidate_body = (statement.digest, body)

    def awaits(self, key_id: bytes) -> bool:
        """Tell whether an envelope is an answer to this node."""
        return key_id in self._work.reply_keys

    def open_answer(self, peer: NodeName, envelope: memoryview, key_id: bytes) -> None:
        """An answer came: a receipt, or a model."""
        self._errands.aside(
            functools.partial(self._work.open_answer, envelope, key_id),
            self._answered,
            functools.partial(self._answer_failed, peer),
        )

    def take_token(self, message: TokenSigned) -> None:
        """The leader has signed this node's token."""
        asked = self._asked
        if asked is None or (asked.term, asked.round) != (message.term, message.round):
            return

        def taken(_: None) -> None:
            self._carry_out(self._core.participant.token_received(asked.token_key, self._now()))

        take = functools.partial(self._work.take_token, asked.token_key, message.signature)
        self._errands.aside(take, taken, self._token_failed)

    def _token_failed(self, error: Exception) -> None:
        if isinstance(error, RemoteError):
            self._errands.refused("the leader's token", error.reason)
        else:
            self._errands.failed("state", error)

    def perform(self, action: do.ParticipantAction) -> None:
        """Carry out an action of the participant's core."""
        work, announcement = self._work, self._announcement
        match action:
            case do.Deliver() if announcement is not None:
                told = (action.update_id, announcement, action.token_key, action.encoding)
                seal = functools.partial(work.seal_update, *told)
                send = functools.partial(self._outbound.send_update, action.within_s)
                self._errands.aside(seal, self._sealed(send), self._update_not_sealed)
            case do.Fetch() if announcement is not None:
                log.info("asking the leader for model %s", short(action.digest))
                request = functools.partial(work.seal_request, action.digest, announcement)
                self._errands.aside(request, self._sealed(self._outbound.send_request), self._seal_failed)
            case do.Forget():
                # On the thread that trains, so that what this update lost is settled before there is another one.
                forget = functools.partial(work.forget, action.update_id, action.term)
                self._shells.participant.submit(forget, ignore, functools.partial(self._errands.failed, "state"))
            case do.StoreCandidate():
                self._store_candidate(action.digest)
            case do.Tell():
                self._shells.mesh.send(action.to, action.message)
            case do.AskToken():
                self._asked = action
                ask = functools.partial(work.ask_token, action.term, action.round, action.token_key)
                ask_leader = functools.partial(self._shells.mesh.send, action.leader)
                self._errands.aside(ask, ask_leader, self._token_failed)
            case do.Train():
                self._train(action)

    def _sealed(self, send: Callable[[Sealed | None], None]) -> Callable[[Sealed | None], None]:
        def done(sealed: Sealed | None) -> None:
            self._errands.mended("envelopes")
            send(sealed)

        return done

    def _seal_failed(self, error: Exception) -> None:
        """The leader's key is none of ours, say: the operator has to know, since it does not pass by itself."""
        self._errands.failed("envelopes", error)

    def _update_not_sealed(self, error: Exception) -> None:
        self._seal_failed(error)
        opening = self._core.participant.opening
        if opening is not None:
            self._look_for(opening.base)

    def _look_for(self, base: Digest) -> None:
        """What failed may have found the base model damaged, and so removed it: it is fetched again."""
        if not self._shells.models.has(base):
            self._core.models_dropped(frozenset({base}))

    def _train(self, action: do.Train) -> None:
        self._work.may_train()
        log.info("training for round %d", action.round, extra={"round": action.round})
        self._shells.participant.submit(
            functools.partial(self._work.train, action.round, action.base, self._tell_checkpoint),
            self._trained,
            functools.partial(self._training_failed, action.base),
        )

    def _tell_checkpoint(self, fault: StateError | None) -> None:
        """Called in another thread."""
        self._shells.participant.tell(self._checkpointed, fault)

    def _checkpointed(self, fault: StateError | None) -> None:
        if fault is None:
            self._errands.mended("checkpoint")
        else:
            self._errands.failed("checkpoint", fault)

    def _trained(self, kept: FinishedUpdate | None) -> None:
        self._errands.mended("training")
        if kept is None:
            self._carry_out(self._core.participant.training_stopped(self._now()))
        else:
            self._errands.mended("checkpoint")  # none is needed any more
            self._carry_out(self._core.participant.trained(kept, self._now()))

    def _training_failed(self, base: Digest, error: Exception) -> None:
        self._errands.failed("training", error)
        self._look_for(base)
        self._carry_out(self._core.participant.training_failed(str(error), self._now()))

    def _answered(self, answer: OpenedReceipt | Digest) -> None:
        if not isinstance(answer, OpenedReceipt):
            self._stored(answer)
            return
        receipt = answer.receipt
        self._round_key = receipt.round_key
        received = self._core.participant.received
        self._carry_out(
            received(
                receipt.update_id,
                answer.leader_key_id,
                self._now(),
                accepted=receipt.accepted,
                reason=receipt.reason,
            )
        )

    def _answer_failed(self, peer: NodeName, error: Exception) -> None:
        self._errands.envelope_failed(peer, error)
        if isinstance(error, StateError):
            self._carry_out(self._core.participant.storing_failed(self._now()))

    def _store_candidate(self, digest: Digest) -> None:
        held, body = self._candidate_body or ("", NOTHING)
        self._candidate_body = None
        unreadable = functools.partial(self._candidate_unreadable, digest)
        if held == digest:
            store = functools.partial(self._work.store_candidate, body, self._round_key, digest)
            self._errands.aside(store, self._stored, unreadable)
        else:
            unreadable(RemoteError("its body has not come"))

    def _candidate_unreadable(self, digest: Digest, error: Exception) -> None:
        if isinstance(error, StateError):
            self._errands.failed("state", error)
        self._carry_out(self._core.participant.candidate_unreadable(digest, self._now()))

    def _stored(self, digest: Digest) -> None:
        self._errands.mended("state")
        self._carry_out(self._core.model_stored(digest, self._now()))

    def _now(self) -> Monotonic:
        return self._shells.clock()
