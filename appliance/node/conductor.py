"""Drives a node: events of the shells into the core, and the core's actions out to the shells, in their order."""

import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from appliance.consensus.messages import Entry
from appliance.consensus.ready import Role
from appliance.envelopes.format import parse_header
from appliance.node.aggregator_work import seal_model
from appliance.node.core import NodeCore
from appliance.node.elections import Elections
from appliance.node.errands import Errands
from appliance.node.members import belongs
from appliance.node.participant_work import OpenedReceipt
from appliance.node.shells import Shells
from appliance.rounds import actions as do
from appliance.rounds.collected import OpenedUpdate
from appliance.rounds.participant import FinishedUpdate, short
from appliance.words.errors import RemoteError, StateError
from appliance.words.ids import Digest, Monotonic, NodeName, Term
from appliance.words.messages import (
    Announcement,
    Candidate,
    LeaderStatement,
    MeshMessage,
    ModelRequest,
    ModelWanted,
    Participation,
    ResignWanted,
    Sealed,
    Signed,
    SnapshotReply,
    SnapshotWanted,
    Stored,
    encode,
)
from appliance.words.models import GlobalModel, Metrics
from appliance.words.settings import Member

ENVELOPES_WAITING_PER_MEMBER = 4
"""Envelopes that may wait for the aggregator's thread, per member: more is a flood, and honest senders try again."""

log = logging.getLogger(__name__)


class Conductor:
    """One node at work. Its methods run on the event loop; slow work goes to the two threads, small work to others."""

    def __init__(self, core: NodeCore, shells: Shells, errands: Errands, elections: Elections) -> None:
        self._core = core
        self._shells = shells
        self._elections = elections
        self._announcement: Announcement | None = None
        self._leader_key_id = b""
        self._round_key = b""
        self._candidate_body: tuple[Digest, bytes] | None = None
        self._errands = errands

    # --- events ------------------------------------------------------------------------------------------------------

    def on_role(self, role: Role, term: Term, leader: NodeName | None) -> None:
        """Consensus: role, term or known leader has changed."""
        if (term, leader) != (self._core.term, self._core.leader):
            self._announcement = None
            if leader is not None:
                log.info("%s leads term %d", "this node" if role is Role.LEADER else leader, term)
            elif self._core.leader is not None:
                log.warning("no leader: %s is not heard any more", self._core.leader)
        self._elections.observe(role.value, term, leader, time.time())
        was_leading = self._core.is_leading
        self._do(self._core.role_changed(role, term, leader, self._now()))
        if was_leading and not self._core.is_leading:
            self._leader_key_id = b""
            self._errands.on_aggregator(self._shells.aggregator_work.end, _ignore)

    def on_committed(self, entries: Sequence[Entry]) -> None:
        """Consensus: entries are committed."""
        before = self._core.lineage.head
        actions = self._core.entries_committed(entries, self._now())
        head = self._core.lineage.head
        if head is not None and head is not before:
            self._candidate_body = None
            log.info(
                "round %d is committed: version %d, accuracy %.4f, loss %.4f, %d of %d updates, %.1f s, %s",
                head.round,
                head.version,
                head.accuracy,
                head.loss,
                head.updates,
                head.expected,
                head.duration_s,
                short(head.digest),
            )
        self._do(actions)

    def on_members(self, members: Mapping[NodeName, Member]) -> None:
        """Consensus: these nodes belong to the cluster now."""
        self._shells.mesh.set_members(members)
        self._shells.verifier.set_members(members)
        # A learner counts for nothing in a round: it may not even run.
        membership = self._shells.consensus.status().membership
        voters = frozenset(membership.voters) & members.keys()
        was_member, is_member = self._core.is_member, belongs(self._core.node, members, membership)
        self._do(self._core.members_changed(voters, self._now(), is_member=is_member))
        if was_member and not is_member:
            log.warning("this node was removed from the cluster: stop it, or have it added again")
        elif is_member and not was_member:
            log.info("this node is let into the cluster")

    def snapshot(self) -> bytes:
        """Consensus: return all that the committed entries so far amount to."""
        return self._core.snapshot()

    def restore(self, state: bytes) -> None:
        """Consensus: a snapshot stands for all that was committed so far."""
        self._do(self._core.restore(state, self._now()))
        head = self._core.lineage.head
        if head is not None:
            self._candidate_body = None
            log.info("a snapshot brings the lineage to round %d, version %d", head.round, head.version)

    def fetch_snapshot(self, leader: NodeName) -> None:
        """Consensus: this node lacks entries that the leader has no more."""
        log.info("asking %s for a snapshot of consensus: this node is far behind", leader)
        self._shells.mesh.send(leader, SnapshotWanted(self._core.term))

    def on_message(self, peer: NodeName, message: MeshMessage) -> None:
        """The mesh: a message came from an authenticated peer.

        Raises:
            RemoteError: it breaks the protocol; the mesh refuses it and logs that once.
        """
        match message:
            case Signed():
                _, statement = self._shells.verifier.verify(message)
                self._check_claim(statement)
                self._on_statement(statement, message.body)
            case Sealed():
                self._on_sealed(peer, message.envelope)
            case Stored():
                self._do(self._core.aggregator.stored(peer, message, self._now()))
            case Participation():
                self._do(self._core.aggregator.participation(peer, message, self._now()))
            case ModelWanted():
                self._on_model_wanted(peer, message)
            case SnapshotWanted():
                content = self._shells.consensus.snapshot()
                if content is not None:
                    self._shells.mesh.send(peer, SnapshotReply(self._core.term, content))
            case SnapshotReply():
                self._shells.consensus.install(peer, message.snapshot)
            case ResignWanted():
                if message.term == self._core.term:
                    log.info("%s asks this node to resign", peer)
                    self.resign()

    def tick(self) -> None:
        """Time has passed; also takes in which peers are live."""
        now = self._now()
        self._do(self._core.aggregator.live_changed(self._shells.consensus.live_peers(), now))
        self._do(self._core.tick(now))

    def resign(self) -> None:
        """Hand over as soon as nothing is half done, if this node leads."""
        self._do(self._core.resign(self._now()))

    # --- what the mesh brings ----------------------------------------------------------------------------------------

    def _check_claim(self, statement: LeaderStatement) -> None:
        """Refuse who poses as the leader of a term that another node leads; a term has one leader (invariant 1)."""
        if statement.term == self._core.term and self._core.leader not in {None, statement.leader}:
            raise RemoteError(f"statement: {statement.leader} claims to lead a term that {self._core.leader} leads")

    def _on_statement(self, statement: LeaderStatement, body: bytes) -> None:
        if isinstance(statement, Announcement) and statement.term == self._core.term:
            if self._announcement is None and statement.leader == self._core.leader:
                log.info("%s announced its key for term %d", statement.leader, statement.term)
            if statement.leader == self._core.leader:
                self._announcement = statement
        if isinstance(statement, Candidate) and body and statement.leader == self._core.leader:
            self._candidate_body = (statement.digest, body)
        self._do(self._core.leader_said(statement, self._now(), with_body=bool(body)))

    def _on_sealed(self, peer: NodeName, envelope: bytes) -> None:
        """An envelope is for this node if its key is: the leader's, or a reply key that waits for its answer."""
        key_id = parse_header(envelope).key_id
        if key_id == self._leader_key_id:
            if self._shells.aggregator.backlog >= self._most_waiting:
                raise RemoteError("more envelopes came than can be opened")
            self._errands.on_aggregator(
                functools.partial(self._shells.aggregator_work.open, envelope),
                self._opened,
                functools.partial(self._errands.envelope_failed, peer),
            )
        elif key_id in self._shells.participant_work.reply_keys:
            self._errands.aside(
                functools.partial(self._shells.participant_work.open_answer, envelope, key_id),
                self._answered,
                functools.partial(self._answer_failed, peer),
            )

    @property
    def _most_waiting(self) -> int:
        return ENVELOPES_WAITING_PER_MEMBER * (len(self._shells.mesh.peers) + 1)

    def _opened(self, content: OpenedUpdate | ModelRequest) -> None:
        if isinstance(content, OpenedUpdate):
            if content.refusal:
                # Without the peer that delivered it: whose an update is must not be found in a log.
                self._errands.refused("an update", content.refusal)
            self._do(self._core.aggregator.opened_update(content, self._now()))
        else:
            self._errands.on_aggregator(functools.partial(self._shells.aggregator_work.serve, content), self._broadcast)

    def _answered(self, answer: OpenedReceipt | Digest) -> None:
        if isinstance(answer, OpenedReceipt):
            receipt = answer.receipt
            self._round_key = receipt.round_key
            self._do(
                self._core.participant.received(
                    receipt.update_id,
                    answer.leader_key_id,
                    self._now(),
                    accepted=receipt.accepted,
                    reason=receipt.reason,
                )
            )
        else:
            self._stored(answer)

    def _answer_failed(self, peer: NodeName, error: Exception) -> None:
        self._errands.envelope_failed(peer, error)
        if isinstance(error, StateError):
            self._do(self._core.participant.storing_failed(self._now()))

    def _on_model_wanted(self, peer: NodeName, wanted: ModelWanted) -> None:
        """Only the leader may ask in the open, and only for what is here."""
        if peer == self._core.leader and wanted.digest in self._core.stored:
            self._errands.aside(
                functools.partial(
                    seal_model, self._shells.models, wanted.digest, wanted.public_key, self._core.term, 0
                ),
                self._broadcast,
            )

    def _stored(self, digest: Digest) -> None:
        self._errands.mended("state")
        self._do(self._core.model_stored(digest, self._now()))

    # --- what the core asks for --------------------------------------------------------------------------------------

    def _do(self, actions: Iterable[do.Action]) -> None:
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: do.Action) -> None:
        match action:
            case do.Note():
                log.log(logging.getLevelNamesMapping()[action.level.upper()], "%s", action.text)
            case do.Say():
                self._say(action)
            case do.Train():
                self._train(action)
            case do.StopTraining():
                self._shells.participant_work.stop()
            case do.Deliver() | do.Fetch() | do.Forget() | do.StoreCandidate() | do.Tell():
                self._carry_out_participant(action)
            case do.RemoveModels(digests):
                self._errands.aside(functools.partial(self._shells.models.remove, digests), _ignore)
            case _:
                self._carry_out_aggregator(action)

    def _carry_out_participant(self, action: do.Deliver | do.Fetch | do.Forget | do.StoreCandidate | do.Tell) -> None:
        work, announcement = self._shells.participant_work, self._announcement
        match action:
            case do.Deliver() if announcement is not None:
                self._errands.aside(
                    functools.partial(work.seal_update, action.update_id, announcement), self._broadcast
                )
            case do.Fetch() if announcement is not None:
                log.info("asking the leader for model %s", short(action.digest))
                self._errands.aside(functools.partial(work.seal_request, action.digest, announcement), self._broadcast)
            case do.Forget():
                self._errands.aside(functools.partial(work.forget, action.update_id), _ignore)
            case do.StoreCandidate():
                self._store_candidate(action.digest)
            case do.Tell():
                self._shells.mesh.send(action.to, action.message)

    def _carry_out_aggregator(self, action: do.AggregatorAction) -> None:
        work, core = self._shells.aggregator_work, self._core.aggregator
        match action:
            case do.MakeLeaderKey(term):
                self._errands.on_aggregator(
                    functools.partial(work.begin, term), functools.partial(self._key_ready, term)
                )
            case do.StartCollecting(_, round_, base):
                log.info("round %d is open", round_)
                self._errands.on_aggregator(functools.partial(work.start_round, round_, base), _ignore)
            case do.Count(handle):
                self._errands.on_aggregator(functools.partial(work.count, handle), _ignore)
            case do.Answer(handle, accepted, reason):
                answer = functools.partial(work.answer, handle, accepted=accepted, reason=reason)
                self._errands.on_aggregator(answer, self._broadcast)
            case do.CreateInitialModel(term):
                self._make_candidate(term, 0, work.create_initial_model)
            case do.Aggregate(term, round_):
                self._make_candidate(term, round_, work.aggregate)
            case do.ObtainModel(digest, peer):
                log.info("asking %s for the committed model %s", peer, short(digest))
                want = functools.partial(self._shells.participant_work.want_model, digest)
                self._errands.aside(want, functools.partial(self._shells.mesh.send, peer))
            case do.Propose(model):
                self._errands.keep(self._propose(msgspec.structs.replace(model, committed_at=time.time())))
            case do.HandOver():
                self._errands.keep(self._hand_over())
            case _:
                raise AssertionError(f"no way to carry out {action}, in phase {core.phase}")

    def _say(self, action: do.Say) -> None:
        """Sign and send; what a leader says to itself needs no signature."""
        if not action.with_body or not isinstance(action.statement, Candidate):
            self._send_signed(action, b"")
            return
        seal = functools.partial(self._shells.aggregator_work.seal_candidate, action.statement.digest)
        self._errands.on_aggregator(seal, functools.partial(self._send_signed, action))

    def _send_signed(self, action: do.Say, body: bytes) -> None:
        payload = encode(action.statement)
        identity = self._shells.identity
        signed = Signed(payload, identity.certificate_der, identity.sign(payload), body)
        if action.to is None:
            self._shells.mesh.broadcast(signed)
            self._on_statement(action.statement, b"")
        else:
            self._shells.mesh.broadcast(signed, to=action.to)

    def _broadcast(self, sealed: Sealed | None) -> None:
        """Send an envelope to all nodes, this one too: who it is for shows when somebody can open it."""
        if sealed is not None:
            self._shells.mesh.broadcast(sealed)
            with contextlib.suppress(RemoteError):  # a full queue here is as good as a lost message: it is sent again
                self._on_sealed(self._core.node, sealed.envelope)

    def _train(self, action: do.Train) -> None:
        work = self._shells.participant_work
        work.may_train()
        log.info("training for round %d", action.round)
        self._shells.participant.submit(
            functools.partial(work.train, action.round, action.base),
            self._trained,
            functools.partial(self._training_failed, action.base),
        )

    def _trained(self, kept: FinishedUpdate | None) -> None:
        self._errands.mended("training")
        if kept is None:
            self._do(self._core.participant.training_stopped(self._now()))
        else:
            self._do(self._core.participant.trained(kept, self._now()))

    def _training_failed(self, base: Digest, error: Exception) -> None:
        self._errands.failed("training", error)
        if not self._shells.models.has(base):
            self._core.models_dropped(frozenset({base}))
        self._do(self._core.participant.training_failed(str(error), self._now()))

    def _store_candidate(self, digest: Digest) -> None:
        held, body = self._candidate_body or ("", b"")
        self._candidate_body = None
        unreadable = functools.partial(self._candidate_unreadable, digest)
        if held == digest:
            store = functools.partial(self._shells.participant_work.store_candidate, body, self._round_key, digest)
            self._errands.aside(store, self._stored, unreadable)
        else:
            unreadable(RemoteError("its body has not come"))

    def _candidate_unreadable(self, digest: Digest, error: Exception) -> None:
        if isinstance(error, StateError):
            self._errands.failed("state", error)
        self._do(self._core.participant.candidate_unreadable(digest, self._now()))

    def _key_ready(self, term: Term, key: tuple[bytes, bytes]) -> None:
        if self._core.is_leading and term == self._core.term:
            self._leader_key_id, public_key = key
            self._do(self._core.aggregator.key_ready(term, self._leader_key_id, public_key, self._now()))

    def _make_candidate(self, term: Term, round_: int, make: Callable[[], Digest]) -> None:
        aggregator = self._core.aggregator

        def made(digest: Digest) -> None:
            self._stored(digest)
            self._do(aggregator.aggregated(term, round_, digest, self._now()))
            evaluate = functools.partial(self._shells.aggregator_work.evaluate, digest)
            self._errands.on_aggregator(evaluate, evaluated, failed)

        def evaluated(metrics: Metrics) -> None:
            self._errands.mended("aggregation")
            self._do(aggregator.evaluated(term, round_, metrics, self._now()))

        def failed(error: Exception) -> None:
            self._errands.failed("aggregation", error)
            self._do(aggregator.aggregation_failed(term, round_, str(error), self._now()))

        self._errands.on_aggregator(make, made, failed)

    async def _propose(self, model: GlobalModel) -> None:
        if await self._shells.consensus.propose(msgspec.msgpack.encode(model)) is None:
            self._do(self._core.aggregator.proposal_refused(self._now()))

    async def _hand_over(self) -> None:
        if not await self._shells.consensus.resign():
            self._do(self._core.hand_over_declined(self._now()))

    def _now(self) -> Monotonic:
        return self._shells.clock()


def _ignore(_: object) -> None:
    """Nothing follows from this work."""
