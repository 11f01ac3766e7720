"""A watched cluster: every invariant of design.md section 3 is checked after every event."""

from appliance.words.ids import Digest, Monotonic, NodeName
from appliance.words.models import GlobalModel
from tests.simulation.nodes.facts import Losses, Made
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
        self._losses_checked: dict[NodeName, Losses] = {}
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
                self._check_residual(node)
        self._check_head_survives()

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
        what = f"back to {model.rolled_back_to}" if model.rolled_back_to is not None else model.withheld
        self.world.note(f"round {model.round} is committed: {model.digest[7:15]}, {model.updates} updates {what}")
        assert model.round not in {known.round for known in self.lineage}, "invariant 2: two models for one round"
        holders = [node.name for node in self.nodes.values() if model.digest in node.disk.models]
        assert len(holders) >= self.majority, f"invariant 3: only {holders} hold what is committed"
        if model.rolled_back_to is not None or model.withheld:
            self._check_no_new_model(model)
            return
        made = self.made[model.digest]
        assert len(set(made.update_ids)) == len(made.update_ids) == model.updates, "invariant 4: counted twice"
        assert len(set(made.authors)) == model.updates, "invariant 4: two updates of one member count"
        assert (made.round, made.base) == (model.round, model.base), "invariant 4: counted for another round or base"
        quorum = self.world.quorum or self.majority
        assert model.round == 0 or model.updates >= quorum, "a round closed below its quorum"

    def _check_no_new_model(self, model: GlobalModel) -> None:
        """It stands for what was committed before, on the head that is there."""
        head = self.lineage[-1]
        back = head if model.rolled_back_to is None else self.lineage[model.rolled_back_to]
        assert model.digest == back.digest, "invariant 2: it says that it is another one"
        assert (model.base, model.version) == (head.digest, head.version + 1), "invariant 2: it does not follow"
        assert model.rolled_back_to is None or model.updates == 0, "invariant 4: updates of no round count"

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

    def _check_residual(self, node: SimulatedNode) -> None:
        """What a residual stands for are updates that counted, in a round that may lose something, each once."""
        losses = node.disk.residual
        if losses == self._losses_checked.get(node.name):
            return
        self._losses_checked[node.name] = losses
        made = [self.made[model.digest] for model in self.lineage]
        counted = {update_id for each in made if each.encoding != "float32" for update_id in each.update_ids}
        assert len(set(losses)) == len(losses), f"{node.name} adds what one update lost twice"
        assert counted.issuperset(losses), f"{node.name} adds what was lost by an update that did not count"

    def check_losses_are_kept(self, since: int) -> None:
        """Where nothing goes wrong, what each counted update lost is in its author's residual."""
        for model in self.lineage[since:-1]:
            made = self.made[model.digest]
            for author, update_id in zip(made.authors, made.update_ids, strict=True):
                kept = made.encoding == "float32" or update_id in self.nodes[author].disk.residual
                assert kept, f"what {author}'s update of round {model.round} lost is forgotten"

    def _check_head_survives(self) -> None:
        """The newest committed model is on a majority of disks, so that no minority's loss can lose it."""
        if not self.lineage:
            return
        digest = self.lineage[-1].digest
        holders = [node.name for node in self.nodes.values() if digest in node.disk.models]
        assert len(holders) >= self.majority, f"invariant 3: only {holders} still hold the head"
