"""Rounds of simulated nodes, with the real cores and stems, seen from where the leader stands."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from appliance.words.ids import NodeName
from tests.simulation.nodes.node import SimulatedNode
from tests.simulation.nodes.world import Delivered, Faults, World

Training = Callable[[random.Random, NodeName], float]

STEPS_A_LOOK = 1000
DEADLINE_S = 60.0
"""Long enough for the slowest: who finishes after the leader's last call comes alone, and is known by that."""


def even(source: random.Random, node: NodeName) -> float:
    """Return how long a training takes where all machines are alike, in seconds."""
    return source.uniform(0.3, 0.45)


def uneven(source: random.Random, node: NodeName) -> float:
    """Return how long a training takes where each machine has a speed of its own, in seconds: node3 always takes longer
    than node2, and the leader knows that."""
    return (0.3 + 0.15 * int(node.removeprefix("node"))) * source.uniform(0.95, 1.05)


@dataclass(frozen=True)
class Setting:
    """What is tried.

    Attributes:
        stems: updates go along a stem; else straight to the leader.
        broadcasts: the node at the stem's end sends to all; else to the leader alone.
        window_s: updates leave together, within this time; 0: each when it is finished.
    """

    nodes: int
    stems: bool
    broadcasts: bool
    window_s: float
    training_s: Training


def observe(setting: Setting, updates: int, seed: int) -> list[Delivered]:
    """Return what leaders see of so many updates: of each member's the first envelope of a round, in order."""
    names: list[NodeName] = [f"node{index}" for index in range(setting.nodes)]
    world = World(
        seed,
        names,
        Faults(),
        training_s=setting.training_s,
        window_s=setting.window_s,
        stems=setting.stems,
        broadcasts=setting.broadcasts,
        deadline_s=DEADLINE_S,
    )
    nodes: dict[NodeName, SimulatedNode] = {}
    for name in names:
        nodes[name] = SimulatedNode(name, world, nodes, {})
    for node in nodes.values():
        node.start()
    seen: dict[tuple[int, NodeName, NodeName], Delivered] = {}
    while len(seen) < updates:
        for _ in range(STEPS_A_LOOK):
            world.step()
        for delivered in world.deliveries:
            seen.setdefault((delivered.round, delivered.leader, delivered.author), delivered)
        world.deliveries.clear()
    return list(seen.values())[:updates]
