"""An update's way to the leader, as ``appliance.node.outbound`` sends it, over the simulated network."""

import random
from typing import TYPE_CHECKING

from appliance.delivery.stem import HandIn, HandOn, Stem, Step
from appliance.words.ids import NodeName
from tests.simulation.nodes.facts import Sealed
from tests.simulation.nodes.world import World

if TYPE_CHECKING:
    from tests.simulation.nodes.node import SimulatedNode


class Outbound:
    """One life of a node's outbound side: the real stem, and who is live now."""

    def __init__(self, node: "SimulatedNode", world: World) -> None:
        self._node = node
        self._world = world
        self._stem = Stem(node.name, random.Random(world.random.random()))

    def send_update(self, sealed: Sealed) -> None:
        """Send an update of this node; a leader's own has no way to go."""
        if self._node.core.leader == self._node.name:
            self._node.take_update(sealed, self._node.name)
        elif self._node.is_for_leader(sealed):
            self._go(sealed, self._stem.begin(self._relays()) if self._world.stems else HandIn())

    def hand_on(self, sealed: Sealed) -> None:
        """A peer handed an update on."""
        if self._node.core.leader == self._node.name:
            self._node.take_update(sealed, self._node.name)
        elif self._node.is_for_leader(sealed):
            self._go(sealed, self._stem.arrived(sealed.id, self._relays()))

    def _go(self, sealed: Sealed, step: Step | None) -> None:
        name, leader = self._node.name, self._node.core.leader
        if isinstance(step, HandOn):
            self._node.send(step.peer, lambda node: node.outbound.hand_on(sealed))
        elif step is not None and leader is not None:
            for to in self._node.peers() if self._world.broadcasts else [leader]:
                self._node.send(to, lambda node: node.take_update(sealed, name))

    def _relays(self) -> set[NodeName]:
        return ({*self._node.live(), self._node.name}) - {self._node.core.leader or ""}
