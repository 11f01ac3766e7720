"""A watched cluster: every invariant of design.md section 3 is checked after every event."""

from appliance.words.ids import Digest, Monotonic, NodeName
from appliance.words.models import GlobalModel
from tests.simulation.nodes.facts import Made
from tests.simulation.nodes.node import SimulatedNode
from tests.simulation.nodes.world import World

STEP_DOWN_WITHIN_S = 1.5
PAUSES_WITHIN_S = 0.1
"""A node looks at the hours with each tick."""


class Cluster:
    """Nodes in one world, watched: every invariant is checked after every event."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.made: dict[Digest, Made] = {}
        self.nodes: dict[NodeName, SimulatedNode] = {}
        for name in world.names:
            self.nodes[name] = SimulatedNode(name, world, self.nodes, self.made)
        self.majority = len(world.names) // 2 + 1
        self.leaders: dict[int, NodeName] = {}
        self.lineage: list[GlobalModel] = []
        for node in self.nodes.values():
            node.start()

    def run(self, seconds: float) -> None:
        """Advance virtual time, checking after each event."""
        end = self.world.now + seconds
        while self.world.now < end:
            self.world.step()
            self.check()

    def check(self) -> None:
        """Check every invariant that can be seen from outside."""
        for node in self.nodes.values():
            if node.alive:
                self._check_leader(node)
                self._check_lineage(node)
                self._check_kept(node)
                self._check_hours(node)

    def _check_leader(self, node: SimulatedNode) -> None:
        if not node.leads:
            return
        first = self.leaders.setdefault(node.raft.term, node.name)
        assert first == node.name, f"invariant 1: {first} and {node.name} both lead term {node.raft.term}"
        since = self.world.cut_off_since.get(node.name)
        if since is not None and self.world.now - since > STEP_DOWN_WITHIN_S:
            raise AssertionError(f"invariant 6: {node.name} still leads, {self.world.now - since:.1f} s after the cut")

    def _check_lineage(self, node: SimulatedNode) -> None:
        models = node.core.lineage.models
        for model in models[len(self.lineage) :]:
            self._check_commit(model)
            self.lineage.append(model)
        known = self.lineage[: len(models)]
        assert list(models) == known, f"invariant 2: the lineage of {node.name} is another one"

    def _check_commit(self, model: GlobalModel) -> None:
        """A model is seen as committed for the first time."""
        self.world.note(f"round {model.round} is committed: {model.digest[7:15]}, {model.updates} updates")
        assert model.round not in {known.round for known in self.lineage}, "invariant 2: two models for one round"
        holders = [node.name for node in self.nodes.values() if model.digest in node.disk.models]
        assert len(holders) >= self.majority, f"invariant 3: only {holders} hold what is committed"
        made = self.made[model.digest]
        assert len(set(made.update_ids)) == len(made.update_ids) == model.updates, "invariant 4: counted twice"
        assert len(set(made.authors)) == model.updates, "invariant 4: two updates of one member count"
        assert (made.round, made.base) == (model.round, model.base), "invariant 4: counted for another round or base"
        assert model.round == 0 or model.updates >= self.majority, "a round closed below its quorum"

    def _check_kept(self, node: SimulatedNode) -> None:
        if len(node.trained) < 2:
            return
        kept, latest = node.disk.kept, node.trained[-1]
        if kept is not None and node.training.under_way:
            assert (kept.round, kept.base) != latest, f"invariant 5: {node.name} trains again what it had finished"

    def _check_hours(self, node: SimulatedNode) -> None:
        closed = self.world.closed(node.name, Monotonic(self.world.now - PAUSES_WITHIN_S))
        if closed is not None and self.world.now < closed.until:
            assert node.training.under_way is None, f"{node.name} trains outside its hours"

    def restart_all(self) -> None:
        """Start every node that is down."""
        for node in self.nodes.values():
            if not node.alive:
                node.crash_at_write = 0
                node.start()

    def check_models_survive(self) -> None:
        """The newest committed model is on a majority of disks, so that no minority's loss can lose it."""
        digest = self.lineage[-1].digest
        holders = [node.name for node in self.nodes.values() if digest in node.disk.models]
        assert len(holders) >= self.majority, f"invariant 3: only {holders} still hold the head"
