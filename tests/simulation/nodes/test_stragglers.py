"""Nodes that take long, come back late or may train at times only: rounds go on, and nothing they did is lost."""

import random
from collections.abc import Callable

import pytest

from appliance.rounds.training import Closed
from appliance.words.ids import Monotonic, NodeName
from tests.simulation.nodes.cluster import Cluster
from tests.simulation.nodes.world import World, always_open

NAMES: list[NodeName] = ["node0", "node1", "node2"]
SLOW = "node2"


def quick(source: random.Random, node: NodeName) -> float:
    """Return how long a training takes."""
    return source.uniform(0.05, 0.1)


def slow_one(from_s: float, to_s: float) -> Callable[[random.Random, NodeName], float]:
    """Return trainings that take one node long."""
    return lambda source, node: source.uniform(from_s, to_s) if node == SLOW else quick(source, node)


def in_windows(node: NodeName, now: Monotonic) -> Closed | None:
    """Let the slow node train for 5 s, and then not for 10."""
    return Closed("later", Monotonic(now - now % 15.0 + 15.0)) if node == SLOW and now % 15.0 >= 5.0 else None


def authors(cluster: Cluster) -> list[set[NodeName]]:
    """Return whose updates are in each model of the lineage, after the initial one."""
    return [set(cluster.made[model.digest].authors) for model in cluster.lineage[1:]]


def test_a_node_that_comes_back_after_hundreds_of_rounds_asks_for_the_head_alone() -> None:
    cluster = Cluster(World(1, NAMES, training_s=quick, window_s=0.05))
    cluster.run(5.0)
    node = cluster.nodes[SLOW]
    node.crash()
    trained, missed_from = len(node.trained), len(cluster.lineage)
    while len(cluster.lineage) < missed_from + 300:
        cluster.run(5.0)
    node.asked_for.clear()
    node.start()
    back_at, came_back_at = len(cluster.lineage), cluster.world.now
    while len(node.trained) == trained:
        cluster.world.step()
        cluster.check()
    assert cluster.world.now - came_back_at < 3.0
    assert node.snapshots == 1, "of consensus: not the entries one by one"
    round_, base = node.trained[-1]
    assert round_ >= back_at
    assert list(node.core.lineage.models) == cluster.lineage[: len(node.core.lineage.models)]
    assert node.asked_for == [base], "the head's bytes, once, and none of the models in between"
    assert not {model.digest for model in cluster.lineage[missed_from + 1 : back_at - 1]} & node.disk.models
    taken_part_from = len(cluster.lineage)
    cluster.run(5.0)
    assert all(SLOW in names for names in authors(cluster)[taken_part_from + 1 :])


@pytest.mark.parametrize("seed", range(3))
def test_an_update_that_comes_too_late_is_refused_and_its_node_goes_on(seed: int) -> None:
    """Its training ends around the deadline, 8 s: before, in and after the moment in which the round is closed."""
    cluster = Cluster(World(seed, NAMES, training_s=slow_one(7.6, 8.4)))
    node = cluster.nodes[SLOW]
    while not node.refusals and cluster.world.now < 5000.0:
        cluster.run(10.0)
    assert node.refusals, "no update was ever late"
    assert all(reason.startswith("late: round ") or " is open" in reason for reason in node.refusals)
    rounds = len(node.trained)
    cluster.run(60.0)
    assert len(node.trained) >= rounds + 4, "it goes on with the next rounds"
    assert len({round_ for round_, _ in node.trained[-4:]}) == 4


def test_a_training_longer_than_any_life_of_its_node_is_finished() -> None:
    """12 s of work, a crash each 4 s, and every round needs all: without checkpoints no round would ever close."""
    cluster = Cluster(World(1, NAMES, training_s=slow_one(12.0, 12.0), quorum=3, deadline_s=60.0))
    for _ in range(30):
        cluster.run(4.0)
        cluster.nodes[SLOW].crash()
        cluster.run(1.0)
        cluster.restart_all()
    assert len(cluster.lineage) >= 4
    assert all(SLOW in names for names in authors(cluster))
    assert len(cluster.nodes[SLOW].trained) > 2 * len(cluster.lineage), "each was begun more than once"


def test_a_training_longer_than_the_hours_goes_on_in_the_next_window() -> None:
    """12 s of work in windows of 5 s, and every round needs all."""
    cluster = Cluster(World(1, NAMES, training_s=slow_one(12.0, 12.0), closed=in_windows, quorum=3, deadline_s=60.0))
    cluster.run(200.0)
    assert len(cluster.lineage) >= 4
    assert all(SLOW in names for names in authors(cluster))


def test_rounds_do_not_wait_for_a_node_outside_its_hours() -> None:
    """The deadline is ten minutes away, trainings take a tenth of a second; one update is enough, as some fail."""
    open_, closed = (
        Cluster(World(1, NAMES, training_s=quick, closed=hours, quorum=1, deadline_s=600.0))
        for hours in (always_open, in_windows)
    )
    for cluster in (open_, closed):
        cluster.run(90.0)
    assert len(closed.lineage) > 0.8 * len(open_.lineage)
    took_part = [SLOW in closed.made[model.digest].authors for model in closed.lineage[1:] if model.has_updates]
    assert 0.2 < sum(took_part) / len(took_part) < 0.5, "a third of the time"
