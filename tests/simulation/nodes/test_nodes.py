"""Invariants of design.md section 3 over whole nodes, in seeded schedules of losses, cuts, crashes and restarts.

``P2PFL_SEEDS=2000 pytest tests/simulation/nodes`` runs more; ``P2PFL_SEED=17`` replays one and prints its trace.
"""

import os

import pytest

from appliance.rounds.training import Closed
from appliance.words.ids import Monotonic, NodeName
from appliance.words.models import Encoding
from tests.simulation.nodes.cluster import Cluster
from tests.simulation.nodes.world import Faults, World

SEEDS = range(int(os.environ.get("P2PFL_SEEDS", "40")))
if "P2PFL_SEED" in os.environ:
    SEEDS = range(int(os.environ["P2PFL_SEED"]), int(os.environ["P2PFL_SEED"]) + 1)

TROUBLE_S = 60.0
CALM_S = 90.0
ENCODINGS: tuple[Encoding, ...] = ("int8", "float32", "float16")
"""Of rounds, as their leaders open them: another leader, another encoding."""
CALM_TRIES, CALM_ROLLBACK_S = 5, 30.0


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
        cluster.restart_all()


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


def every_other_5_s(node: NodeName, now: Monotonic) -> Closed | None:
    """The training hours of one of the nodes; the others have none."""
    ends = Monotonic(now - now % 10.0 + 10.0)
    return Closed("later", ends) if node == "node1" and now % 10.0 >= 5.0 else None


@pytest.mark.parametrize("seed", SEEDS)
def test_invariants_hold_and_rounds_go_on(seed: int) -> None:
    names = [f"node{index}" for index in range(5 if seed % 4 else 3)]
    faults = Faults(loss=0.05, duplication=0.05, delay_s=(0.001, 0.03))
    world = World(seed, names, faults, encodings=ENCODINGS, closed=every_other_5_s)
    cluster = Cluster(world)
    try:
        trouble(cluster)
        cluster.run(TROUBLE_S)
        cluster.world.heal()
        cluster.world.faults = Faults()
        for node in cluster.nodes.values():
            node.crash_at_write = 0
        cluster.restart_all()
        before = len(cluster.lineage)
        cluster.run(CALM_S)
        assert len(cluster.lineage) >= before + 5, f"only {len(cluster.lineage) - before} rounds after the trouble"
        cluster.check_losses_are_kept(since=len(cluster.lineage) - 5)
        go_back(cluster)
    except AssertionError as failure:
        trace = "\n".join(cluster.world.trace[-60:])
        pytest.fail(f"{failure}\nreplay: P2PFL_SEED={seed} pytest tests/simulation/nodes\n{trace}")
