"""Envelopes on their way: to the leader along a stem, back to whom they answer, by the cluster's mode of delivery."""

import asyncio
import functools
from random import Random

from appliance.delivery.stem import HandOn, Stem, Step
from appliance.envelopes.format import Header, Kind, parse_header
from appliance.node.core import NodeCore
from appliance.node.errands import Errands
from appliance.node.shells import Shells
from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName
from appliance.words.messages import HandedOn, Sealed
from appliance.words.settings import Delivery


class Outbound:
    """Sends envelopes, this node's own and those that peers hand on. Its methods run on the event loop.

    Args:
        random: chooses ways and moments; unpredictable for others.

    Attributes:
        leader_key_id: what is sealed to this key goes on its way; empty: nothing, there is no leader.
    """

    def __init__(
        self,
        core: NodeCore,
        shells: Shells,
        errands: Errands,
        settings: Delivery,
        random: Random,
    ) -> None:
        self._core = core
        self._shells = shells
        self._errands = errands
        self._relays_payload = settings.mode == "relay"
        self._random = random
        self._stem = Stem(core.node, random)
        self.leader_key_id = b""

    def send_update(self, within_s: float, sealed: Sealed | None) -> None:
        """Send an update on its way at a random moment within a time: when it comes says little about whose it is."""
        if sealed is not None:
            self._errands.keep(self._send_update(sealed, self._random.uniform(0.0, within_s)))

    async def _send_update(self, sealed: Sealed, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        if self._core.leader == self._core.node:
            self._shells.mesh.send(self._core.node, sealed)
        elif self._is_for_leader(parse_header(sealed.envelope)):
            self._go(sealed, self._stem.begin(self._relays()))

    def hand_on(self, message: HandedOn) -> None:
        """A peer handed an envelope on.

        What is for an earlier leader is dropped: its author notices, and seals it again.

        Raises:
            RemoteError: it is not for a leader, or was here too often.
        """
        header = parse_header(message.envelope)
        if header.kind is not Kind.TO_LEADER:
            raise RemoteError("hands on an envelope that is not for the leader")
        sealed = Sealed(message.envelope)
        if self._core.leader == self._core.node:
            self._shells.mesh.send(self._core.node, sealed)  # it has become the leader's since the peer chose it
        elif self._is_for_leader(header):
            step = self._stem.arrived(header.salt, self._relays())
            if step is None:
                raise RemoteError("hands on one envelope again and again")
            self._go(sealed, step)

    def send_request(self, sealed: Sealed | None) -> None:
        """Send a request for a model: who lacks one is no secret, so it takes the short way."""
        if sealed is not None:
            self._deliver(sealed)

    def answer(self, peer: NodeName, sealed: Sealed | None) -> None:
        """Send a model to the peer that delivered the request for it; in ``broadcast``, to all."""
        if sealed is None:
            return
        if self._relays_payload:
            self._shells.mesh.send(peer, sealed)
        else:
            self.broadcast(sealed)

    def broadcast(self, sealed: Sealed | None) -> None:
        """Send an envelope to all nodes, this one too: who it is for shows when somebody can open it."""
        if sealed is not None:
            self._shells.mesh.broadcast(sealed)
            self._shells.mesh.send(self._core.node, sealed)

    def _go(self, sealed: Sealed, step: Step, tried: frozenset[NodeName] = frozenset()) -> None:
        if isinstance(step, HandOn):
            again = functools.partial(self._go_elsewhere, sealed, tried | {step.peer})
            self._shells.mesh.send(step.peer, HandedOn(sealed.envelope), again)
        else:
            self._deliver(sealed)

    def _go_elsewhere(self, sealed: Sealed, tried: frozenset[NodeName]) -> None:
        """The chosen peer can't be reached: it died too lately for this node to know, say. Its author would wait for
        the receipt in vain, and after that for its turn to send again."""
        if self._is_for_leader(parse_header(sealed.envelope)):
            self._go(sealed, self._stem.begin(self._relays() - tried), tried)

    def _deliver(self, sealed: Sealed) -> None:
        if not self._relays_payload:
            self.broadcast(sealed)
        elif self._core.leader is not None:
            self._shells.mesh.send(self._core.leader, sealed)

    def _relays(self) -> frozenset[NodeName]:
        """Return the nodes that an envelope may go along: live members, without the leader."""
        live = self._shells.consensus.live_peers() & frozenset(self._shells.mesh.peers)
        return (live | {self._core.node}) - {self._core.leader or ""}

    def _is_for_leader(self, header: Header) -> bool:
        return header.key_id == self.leader_key_id
