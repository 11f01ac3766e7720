"""Invariants of design.md section 3 over whole nodes, in seeded schedules of losses, cuts, crashes and restarts.

``P2PFL_SEEDS=2000 pytest tests/simulation/nodes`` runs more; ``P2PFL_SEED=17`` replays one and prints its trace.
"""

import os

import pytest

from appliance.words.ids import Digest, NodeName
from appliance.words.models import Encoding, GlobalModel
from tests.simulation.nodes.facts import Losses, Made
from tests.simulation.nodes.node import SimulatedNode
from tests.simulation.nodes.world import Faults, World

SEEDS = range(int(os.environ.get("P2PFL_SEEDS", "40")))
if "P2PFL_SEED" in os.environ:
    SEEDS = range(int(os.environ["P2PFL_SEED"]), int(os.environ["P2PFL_SEED"]) + 1)

TROUBLE_S = 60.0
CALM_S = 90.0
STEP_DOWN_WITHIN_S = 1.5
ENCODINGS: tuple[Encoding, ...] = ("int8", "float32", "float16")
"""Of rounds, as their leaders open them: another leader, another encoding."""
CALM_TRIES, CALM_ROLLBACK_S = 5, 30.0


class Cluster:
    """Nodes in one world, watched: every invariant is checked after every event."""

    def __init__(self, seed: int, size: int) -> None:
        names: list[NodeName] = [f"node{index}" for index in range(size)]
        faults = Faults(loss=0.05, duplication=0.05, delay_s=(0.001, 0.03))
        self.world = World(seed, names, faults, encodings=ENCODINGS)
        self.made: dict[Digest, Made] = {}
        self.nodes: dict[NodeName, SimulatedNode] = {}
        for name in names:
            self.nodes[name] = SimulatedNode(name, self.world, self.nodes, self.made)
        self.majority = size // 2 + 1
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
        assert model.round == 0 or model.updates >= self.majority, "a round closed below its quorum"

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
        if kept is not None and node._training:
            assert (kept.round, kept.base) != latest, f"invariant 5: {node.name} trains again what it had finished"

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


def trouble(cluster: Cluster) -> None:
    """Schedule crashes (also in the middle of writes), restarts, cuts and heals for a while."""
    world = cluster.world
    moment_s = world.random.uniform(0.5, 6.0)
    while moment_s < TROUBLE_S:
        world.after(moment_s, lambda: mischief(cluster))
        moment_s += world.random.uniform(0.5, 6.0)


def mischief(cluster: Cluster) -> None:
    """Do one bad thing, or mend one."""
    world = cluster.world
    node = cluster.nodes[world.random.choice(world.names)]
    leaders = [node for node in cluster.nodes.values() if node.leads]
    what = world.random.randrange(9)
    if what == 0 and node.alive:
        node.crash()
    elif what == 1 and leaders:
        leaders[0].crash()
    elif what == 2:
        node.crash_at_write = world.random.randint(1, 8)
    elif what == 3:
        world.cut(world.random.sample(world.names, world.random.randint(1, len(world.names) - 1)))
    elif what == 4:
        world.cut_one_way(*world.random.sample(world.names, 2))
    elif what == 5:
        world.heal()
    elif what in (6, 7) and cluster.lineage:
        for leader in leaders:
            leader.roll_back(world.random.randrange(len(cluster.lineage)))
    else:
        restart_all(cluster)


def restart_all(cluster: Cluster) -> None:
    """Start every node that is down."""
    for node in cluster.nodes.values():
        if not node.alive:
            node.crash_at_write = 0
            node.start()


def go_back(cluster: Cluster) -> None:
    """In calm times an operator gets the model before the head back, and rounds go on from it.

    Asked again where leadership moved in between, or the dice said no.
    """
    for _ in range(CALM_TRIES):
        version = next(
            model.version for model in reversed(cluster.lineage) if model.digest != cluster.lineage[-1].digest
        )
        asked = [leader.roll_back(version) for leader in cluster.nodes.values() if leader.leads]
        before = len(cluster.lineage)
        cluster.run(CALM_ROLLBACK_S)
        new = cluster.lineage[before:]
        if any(asked) and any(model.rolled_back_to == version for model in new[:2]):
            assert len(new) > 2, "no rounds after the rollback"
            return
    raise AssertionError("the rollback that was asked for in calm times is not committed")


@pytest.mark.parametrize("seed", SEEDS)
def test_invariants_hold_and_rounds_go_on(seed: int) -> None:
    cluster = Cluster(seed, size=5 if seed % 4 else 3)
    try:
        trouble(cluster)
        cluster.run(TROUBLE_S)
        cluster.world.heal()
        cluster.world.faults = Faults()
        for node in cluster.nodes.values():
            node.crash_at_write = 0
        restart_all(cluster)
        before = len(cluster.lineage)
        cluster.run(CALM_S)
        assert len(cluster.lineage) >= before + 5, f"only {len(cluster.lineage) - before} rounds after the trouble"
        cluster.check_losses_are_kept(since=len(cluster.lineage) - 5)
        go_back(cluster)
    except AssertionError as failure:
        trace = "\n".join(cluster.world.trace[-60:])
        pytest.fail(f"{failure}\nreplay: P2PFL_SEED={seed} pytest tests/simulation/nodes\n{trace}")
