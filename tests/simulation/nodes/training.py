"""A simulated node's training thread: it works in parts, and after each of them a checkpoint is on the disk."""

from typing import TYPE_CHECKING

from appliance.rounds.participant import FinishedUpdate
from appliance.words.ids import Digest, Round
from appliance.words.models import GlobalModel
from tests.simulation.nodes.facts import Checkpoint
from tests.simulation.nodes.world import World

if TYPE_CHECKING:
    from tests.simulation.nodes.node import SimulatedNode

CHECKPOINT_S = 1.0
STOPS_WITHIN_S = 0.01


class SimulatedTraining:
    """One life of the thread."""

    def __init__(self, node: "SimulatedNode", world: World) -> None:
        self._node = node
        self._world = world
        self._part_began = world.now
        self.under_way: Checkpoint | None = None
        """What is trained now, as it was when the present part began."""

    def begin(self, round_: Round, base: Digest) -> None:
        """Train, from the checkpoint if it is of this very training."""
        found = self._node.disk.checkpoint
        if found is None or (found.round, found.base) != (round_, base):
            found = Checkpoint(round_, base, self._world.training_s(self._world.random, self._node.name))
        self._work_on(found)

    def _work_on(self, training: Checkpoint) -> None:
        self.under_way, self._part_began = training, self._world.now
        part_s = min(CHECKPOINT_S, training.left_s)
        rest = Checkpoint(training.round, training.base, training.left_s - part_s)

        def part_is_done() -> None:
            if self.under_way is not training:
                return
            if rest.left_s > 0.0:
                self._keep(rest)
                self._work_on(rest)
            else:
                self._finish(rest)

        self._node.later(part_s, part_is_done)

    def end(self, *, keeps: bool) -> None:
        """Stop in mid-work; ``keeps``: with a checkpoint of what is done, else with none left."""
        training, self.under_way = self.under_way, None
        if training is None:
            return
        left_s = training.left_s - (self._world.now - self._part_began)

        def stopped() -> None:
            if keeps:
                self._keep(Checkpoint(training.round, training.base, left_s))
            else:
                self._node.disk.checkpoint = None
            self._node.perform(self._node.core.participant.training_stopped(self._world.now))

        self._node.later(STOPS_WITHIN_S, stopped)

    def lineage_is_at(self, head: GlobalModel | None) -> None:
        """What was begun for a round that is committed is of no use any more."""
        checkpoint = self._node.disk.checkpoint
        if head is not None and checkpoint is not None and checkpoint.round <= head.round:
            self._node.disk.checkpoint = None

    def _keep(self, checkpoint: Checkpoint) -> None:
        self._node.write()
        self._node.disk.checkpoint = checkpoint
        self._node.write()

    def _finish(self, training: Checkpoint) -> None:
        self.under_way = None
        participant, disk = self._node.core.participant, self._node.disk
        if self._world.random.random() < 1 / 20:
            self._node.perform(participant.training_failed("the dice said so", self._world.now))
            return
        self._node.write()
        disk.kept = FinishedUpdate(self._world.random.randbytes(16), training.round, training.base)
        self._node.write()
        disk.checkpoint = None
        self._node.perform(participant.trained(disk.kept, self._world.now))
