"""Drives a node: events of the shells into the core, and the core's actions out to the shells, in their order."""

import functools
import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from appliance.consensus.messages import Entry
from appliance.consensus.ready import Role
from appliance.datagrams.agreement import KeyMessage
from appliance.envelopes.format import parse_header
from appliance.mesh.head import Head
from appliance.node.core import NodeCore
from appliance.node.elections import Elections
from appliance.node.errands import Errands
from appliance.node.leading import Leading
from appliance.node.members import belongs
from appliance.node.outbound import Outbound
from appliance.node.outlets import ignore
from appliance.node.participating import Participating
from appliance.node.shells import Shells
from appliance.rounds import actions as do
from appliance.words.errors import RemoteError, StateError
from appliance.words.ids import Monotonic, NodeName, Term, Version, short
from appliance.words.messages import (
    DatagramKeyAnswer,
    DatagramKeyOffer,
    DatagramKeyWanted,
    Finished,
    HandedOn,
    LeaderStatement,
    MeshMessage,
    ModelWanted,
    Participation,
    ResignWanted,
    Revocations,
    Sealed,
    Signed,
    SnapshotReply,
    SnapshotWanted,
    Stored,
    TokenSigned,
    TokenWanted,
)
from appliance.words.models import GlobalModel
from appliance.words.parts import NOTHING
from appliance.words.settings import Member

log = logging.getLogger(__name__)


class Conductor:
    """One node at work. Its methods run on the event loop; slow work goes to the two threads, small work to others."""

    def __init__(
        self,
        core: NodeCore,
        shells: Shells,
        errands: Errands,
        elections: Elections,
        outbound: Outbound,
    ) -> None:
        self._core = core
        self._shells = shells
        self._errands = errands
        self._elections = elections
        self._outbound = outbound
        self._leading = Leading(core, shells, errands, outbound, carry_out=self._do, hear=self._on_statement)
        self._participating = Participating(core, shells, errands, outbound, carry_out=self._do)
        self._check_hours()  # before anything else can begin a training

    # --- events ------------------------------------------------------------------------------------------------------

    def on_role(self, role: Role, term: Term, leader: NodeName | None) -> None:
        """Consensus: role, term or known leader has changed."""
        if (term, leader) != (self._core.term, self._core.leader):
            self._outbound.leader_key_id = b""
            self._participating.forget_leader()
            if leader is not None:
                who = "this node" if role is Role.LEADER else leader
                log.info("%s leads term %d", who, term, extra={"term": term})
            elif self._core.leader is not None:
                log.warning("no leader: %s is not heard any more", self._core.leader)
        self._elections.observe(role.value, term, leader, time.time())
        was_leading = self._core.is_leading
        self._do(self._core.role_changed(role, term, leader, self._now()))
        if was_leading and not self._core.is_leading:
            self._leading.end()

    def on_committed(self, entries: Sequence[Entry]) -> None:
        """Consensus: entries are committed."""
        before = self._core.lineage.head
        actions = self._core.entries_committed(entries, self._now())
        head = self._core.lineage.head
        if head is not None and head is not before:
            self._participating.lineage_went_on(head.round)
            _say_committed(head)
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
            self._participating.lineage_went_on(head.round)
            log.info("a snapshot brings the lineage to round %d, version %d", head.round, head.version)

    def fetch_snapshot(self, leader: NodeName) -> None:
        """Consensus: this node lacks entries that the leader has no more."""
        log.info("asking %s for a snapshot of consensus: this node is far behind", leader, extra={"peer": leader})
        self._shells.mesh.send(leader, SnapshotWanted(self._core.term))

    def wants(self, _: NodeName, head: Head) -> str | None:
        """The mesh: return why a message of which only the first bytes have come is of no use here; None if it may be.

        Envelopes for others and what is said of other terms so cost a glance, and neither memory nor an opening.
        """
        if head.envelope is not None:
            key_id = head.envelope.key_id
            is_for_leader = head.type == HandedOn.__name__ and key_id == self._outbound.leader_key_id
            return None if is_for_leader or self._opens(key_id) else "an envelope for another key"
        if head.statement and head.term is not None and head.term != self._core.term:
            return f"a statement of term {head.term}"
        return None

    def _opens(self, key_id: bytes) -> bool:
        return key_id == self._leading.key_id or self._participating.awaits(key_id)

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
            case HandedOn():
                self._outbound.hand_on(message)
            case Stored() | Participation() | Finished() | TokenWanted():
                self._do(self._core.aggregator.told(peer, message, self._now()))
            case TokenSigned():
                if peer == self._core.leader:
                    self._participating.take_token(message)
            case ModelWanted():
                self._on_model_wanted(peer, message)
            case SnapshotWanted() | SnapshotReply() | DatagramKeyWanted() | DatagramKeyOffer() | DatagramKeyAnswer():
                self._tell_consensus(peer, message)
            case Revocations():
                self._take_list(message)
            case ResignWanted():
                if message.term == self._core.term:
                    log.info("%s asks this node to resign", peer, extra={"peer": peer})
                    self.resign()

    def _take_list(self, message: Revocations) -> None:
        try:
            self._shells.credentials.take_list(message.content)
        except StateError as error:
            self._errands.failed("state", error)

    def _tell_consensus(self, peer: NodeName, message: SnapshotWanted | SnapshotReply | KeyMessage) -> None:
        match message:
            case SnapshotWanted():
                content = self._shells.consensus.snapshot()
                if content is not None:
                    self._shells.mesh.send(peer, SnapshotReply(self._core.term, content))
            case SnapshotReply():
                self._shells.consensus.install(peer, message.snapshot)
            case _:
                self._shells.keys.on_message(peer, message, self._now())

    def tick(self) -> None:
        """Time has passed; also takes in which peers are live."""
        now, live = self._now(), self._shells.consensus.live_peers()
        if self._shells.credentials.tick(now):
            self._shells.mesh.broadcast(Revocations(self._shells.credentials.revoked.der))
        self._shells.keys.set_peers(self._shells.mesh.peers)
        self._shells.keys.tick(live, now)
        self._check_hours()
        self._do(self._core.aggregator.live_changed(live, now))
        self._do(self._core.tick(now))

    def _check_hours(self) -> None:
        now = self._now()
        self._do(self._core.participant.hours_changed(self._shells.hours.closed(now), now))

    def resign(self) -> None:
        """Hand over as soon as nothing is half done, if this node leads."""
        self._do(self._core.resign(self._now()))

    def roll_back(self, version: Version) -> None:
        """An operator asks that an earlier model become the head again. Raises OperatorError if it can't."""
        actions = self._core.roll_back(version, self._now())
        log.warning("an operator asks to go back to version %d", version)
        self._do(actions)

    # --- what the mesh brings ----------------------------------------------------------------------------------------

    def _check_claim(self, statement: LeaderStatement) -> None:
        """Refuse who poses as the leader of a term that another node leads; a term has one leader (invariant 1)."""
        if statement.term == self._core.term and self._core.leader not in {None, statement.leader}:
            raise RemoteError(f"statement: {statement.leader} claims to lead a term that {self._core.leader} leads")

    def _on_statement(self, statement: LeaderStatement, body: memoryview = NOTHING) -> None:
        self._participating.heard(statement, body)
        self._do(self._core.leader_said(statement, self._now(), with_body=bool(body)))

    def _on_sealed(self, peer: NodeName, envelope: memoryview) -> None:
        """An envelope is for this node if its key is: the leader's, or a reply key that waits for its answer."""
        key_id = parse_header(envelope).key_id
        if key_id == self._leading.key_id:
            self._leading.open(peer, envelope)
        elif self._participating.awaits(key_id):
            self._participating.open_answer(peer, envelope, key_id)

    def _on_model_wanted(self, peer: NodeName, wanted: ModelWanted) -> None:
        """Only the leader may ask in the open, and only for what is here."""
        if peer == self._core.leader and wanted.digest in self._core.stored:
            seal = functools.partial(self._shells.aggregator_work.supply, wanted, self._core.term)
            failed = functools.partial(self._errands.envelope_failed, peer)
            self._errands.aside(seal, functools.partial(self._outbound.answer, peer), failed)

    # --- what the core asks for --------------------------------------------------------------------------------------

    def _do(self, actions: Iterable[do.Action]) -> None:
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: do.Action) -> None:
        match action:
            case do.Note():
                log.log(logging.getLevelNamesMapping()[action.level.upper()], "%s", action.text)
            case do.StopTraining():
                self._shells.participant_work.stop()
            case do.PauseTraining():
                self._shells.participant_work.pause()
            case do.RemoveModels(digests):
                self._shells.models.doom(digests)
                self._errands.aside(self._shells.models.sweep, ignore)
            case do.Deliver() | do.Fetch() | do.Forget() | do.StoreCandidate() | do.Tell() | do.Train() | do.AskToken():
                self._participating.perform(action)
            case _:
                self._leading.perform(action)

    def _now(self) -> Monotonic:
        return self._shells.clock()


def _say_committed(head: GlobalModel) -> None:
    where = {"round": head.round}
    if head.withheld:
        text = "round %d is committed without a new model: version %d is its base again; %s"
        log.warning(text, head.round, head.version, head.withheld, extra=where)
    elif head.rolled_back_to is not None:
        text = (
            "rolled back in the place of round %d: version %d has the bytes of version %d, accuracy %.4f, loss %.4f, %s"
        )
        log.warning(
            text,
            head.round,
            head.version,
            head.rolled_back_to,
            head.accuracy,
            head.loss,
            short(head.digest),
            extra=where,
        )
    else:
        text = "round %d is committed: version %d, accuracy %.4f, loss %.4f, %d of %d updates, %.1f s, %s"
        how = (head.version, head.accuracy, head.loss, head.updates, head.expected, head.duration_s, short(head.digest))
        log.info(text, head.round, *how, extra=where)
