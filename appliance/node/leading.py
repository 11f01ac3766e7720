"""The aggregator's side of a node: carries out what its core asks for while this node leads."""

import functools
import logging
import time
from collections.abc import Callable

import msgspec

from appliance.envelopes.format import parse_header
from appliance.mesh.seen import Seen
from appliance.node.core import NodeCore
from appliance.node.errands import Errands
from appliance.node.outbound import Outbound
from appliance.node.outlets import CarryOut, Hear, ignore
from appliance.node.shells import Shells
from appliance.rounds import actions as do
from appliance.rounds.collected import Judged, OpenedUpdate
from appliance.words.errors import RemoteError
from appliance.words.ids import Digest, Monotonic, NodeName, Round, Term, short
from appliance.words.messages import Candidate, ModelRequest, Signed, encode
from appliance.words.models import GlobalModel

ENVELOPES_WAITING_PER_MEMBER = 4
"""Envelopes that may wait for the aggregator's thread, per member: more is a flood, and honest senders try again."""

ENVELOPES_REMEMBERED = 4096

log = logging.getLogger(__name__)


class Leading:
    """Opens and counts envelopes, makes candidates, signs statements. Its methods run on the event loop.

    Args:
        carry_out: takes the actions that follow from an event.
        hear: lets this node's participant hear a statement to all.

    Attributes:
        key_id: of the key to which participants seal now; empty while this node does not lead.
    """

    def __init__(
        self,
        core: NodeCore,
        shells: Shells,
        errands: Errands,
        outbound: Outbound,
        *,
        carry_out: CarryOut,
        hear: Hear,
    ) -> None:
        self.key_id = b""
        self._collecting: tuple[Term, Round] = 0, 0
        self._seen = Seen(ENVELOPES_REMEMBERED)
        self._core = core
        self._shells = shells
        self._work = shells.aggregator_work
        self._errands = errands
        self._carry_out = carry_out
        self._outbound = outbound
        self._hear = hear

    def end(self) -> None:
        """This node leads no more: drop the keys and sums of its term."""
        self.key_id = b""
        self._errands.on_aggregator(self._work.end, ignore)

    def open(self, peer: NodeName, envelope: memoryview) -> None:
        """An envelope for the leader came. Raises RemoteError if too many wait already.

        One that a peer delivers again is let go: its connection broke, or it wants to keep this node busy.
        """
        if self._shells.aggregator.backlog >= ENVELOPES_WAITING_PER_MEMBER * (len(self._shells.mesh.peers) + 1):
            raise RemoteError("more envelopes came than can be opened")
        # Of each peer apart: nobody may have another's envelope dropped by delivering something with its salt before.
        if not self._seen.first(peer, peer.encode() + parse_header(envelope).salt):
            return
        self._errands.on_aggregator(
            functools.partial(self._work.open, envelope),
            functools.partial(self._opened, peer),
            functools.partial(self._not_opened, peer),
        )

    def _not_opened(self, peer: NodeName, error: Exception) -> None:
        """An envelope could not be opened: its sender's fault; or there is no space for it here, but elsewhere."""
        self._errands.envelope_failed(peer, error)
        if not isinstance(error, RemoteError):
            term, round_ = self._collecting
            self._carry_out(self._core.aggregator.aggregation_failed(term, round_, str(error), self._now()))

    def _opened(self, peer: NodeName, content: OpenedUpdate | ModelRequest) -> None:
        if isinstance(content, ModelRequest):
            serve = functools.partial(self._work.serve, content)
            self._errands.on_aggregator(serve, functools.partial(self._outbound.answer, peer))
            return
        if content.refusal:
            # Without the peer that delivered it: whose an update is must not be found in a log.
            self._errands.refused("an update", content.refusal)
        self._carry_out(self._core.aggregator.opened_update(content, self._now()))

    def perform(self, action: do.AggregatorAction) -> None:
        """Carry out an action of the aggregator's core."""
        work = self._work
        match action:
            case do.Say():
                self._say(action)
            case do.MakeLeaderKey(term):
                self.key_id = b""  # what is sealed to the old key can't count any more
                key_ready = functools.partial(self._key_ready, term)
                self._errands.on_aggregator(functools.partial(work.begin, term), key_ready)
            case do.StartCollecting(_, round_, _, encoding):
                log.info("round %d is open, for updates in %s", round_, encoding, extra={"round": round_})
                self._begin_round(action)
            case do.SignToken(member, blinded):
                self._sign_token(member, blinded)
            case do.Count(handle):
                self._errands.on_aggregator(functools.partial(work.count, handle), ignore)
            case do.Answer(handle, accepted, reason):
                answer = functools.partial(work.answer, handle, accepted=accepted, reason=reason)
                self._errands.on_aggregator(answer, self._outbound.broadcast)
            case do.CreateInitialModel() | do.Aggregate() | do.BringBack():
                self._make_candidate(action)
            case do.ObtainModel(digest, peer):
                log.info("asking %s for the committed model %s", peer, short(digest), extra={"peer": peer})
                want = functools.partial(self._shells.participant_work.want_model, digest)
                self._errands.aside(want, functools.partial(self._shells.mesh.send, peer))
            case do.Propose(model):
                self._errands.keep(self._propose(model.stamped(time.time())))
            case do.HandOver():
                self._errands.keep(self._hand_over())
            case _:
                raise AssertionError(f"no way to carry out {action}")

    def _begin_round(self, action: do.StartCollecting) -> None:
        aggregator, term, round_ = self._core.aggregator, action.term, action.round
        self._collecting = term, round_

        def begun(token_key: bytes) -> None:
            self._carry_out(aggregator.round_begun(term, round_, token_key, self._now()))

        def failed(error: Exception) -> None:
            self._errands.failed("aggregation", error)
            self._carry_out(aggregator.aggregation_failed(term, round_, str(error), self._now()))

        start = functools.partial(self._work.start_round, round_, action.base, action.encoding)
        self._errands.on_aggregator(start, begun, failed)

    def _sign_token(self, member: NodeName, blinded: bytes) -> None:
        def failed(error: Exception) -> None:
            if isinstance(error, RemoteError):
                self._errands.refused(f"a token for {member}", error.reason)
            else:
                self._errands.failed("aggregation", error)

        sign = functools.partial(self._work.sign_token, member, blinded)
        self._errands.on_aggregator(sign, functools.partial(self._shells.mesh.send, member), failed)

    def _say(self, action: do.Say) -> None:
        """Sign and send; what a leader says to itself needs no signature."""
        if not action.with_body or not isinstance(action.statement, Candidate):
            self._send_signed(action, b"")
            return
        seal = functools.partial(self._work.seal_candidate, action.statement.digest)
        self._errands.on_aggregator(seal, functools.partial(self._send_signed, action))

    def _send_signed(self, action: do.Say, body: bytes) -> None:
        payload = encode(action.statement)
        identity = self._shells.credentials.identity
        signed = Signed(payload, identity.certificate_der, identity.sign(payload), memoryview(body))
        if action.to is None:
            self._shells.mesh.broadcast(signed)
            self._hear(action.statement)
        else:
            self._shells.mesh.broadcast(signed, to=action.to)

    def _key_ready(self, term: Term, key: tuple[bytes, bytes]) -> None:
        if self._core.is_leading and term == self._core.term:
            self.key_id, public_key = key
            self._carry_out(self._core.aggregator.key_ready(term, self.key_id, public_key, self._now()))

    def _make_candidate(self, action: do.CreateInitialModel | do.Aggregate | do.BringBack) -> None:
        aggregator, term = self._core.aggregator, action.term
        round_ = 0 if isinstance(action, do.CreateInitialModel) else action.round
        make: Callable[[], Digest]
        match action:
            case do.CreateInitialModel():
                make = self._work.create_initial_model
            case do.Aggregate():
                make = self._work.aggregate
            case do.BringBack(digest=former):
                make = functools.partial(self._work.bring_back, former)

        def made(digest: Digest) -> None:
            self._errands.mended("state")
            self._carry_out(self._core.model_stored(digest, self._now()))
            self._errands.on_aggregator(functools.partial(self._work.judge, digest), judged, failed)

        def judged(candidate: Judged) -> None:
            self._errands.mended("aggregation")
            self._carry_out(aggregator.aggregated(term, round_, candidate, self._now()))

        def failed(error: Exception) -> None:
            self._errands.failed("aggregation", error)
            self._carry_out(aggregator.aggregation_failed(term, round_, str(error), self._now()))

        self._errands.on_aggregator(make, made, failed)

    async def _propose(self, model: GlobalModel) -> None:
        if await self._shells.consensus.propose(msgspec.msgpack.encode(model)) is None:
            self._carry_out(self._core.aggregator.proposal_refused(self._now()))

    async def _hand_over(self) -> None:
        if not await self._shells.consensus.resign():
            self._carry_out(self._core.hand_over_declined(self._now()))

    def _now(self) -> Monotonic:
        return self._shells.clock()
