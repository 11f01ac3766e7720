"""Histories of clusters under faults. ``SEEDS=10000 pytest tests/simulation/consensus`` runs more of them."""

import math
import os
import statistics

import pytest

from appliance.words.settings import Consensus
from tests.simulation.consensus import chaos
from tests.simulation.consensus.timing import failover
from tests.simulation.consensus.world import Faults, World

SEEDS = int(os.environ.get("SEEDS", "1000"))
GROUPS = 10


@pytest.mark.timeout(60 + SEEDS)
@pytest.mark.parametrize("group", range(GROUPS))
def test_histories_hold(group: int) -> None:
    for seed in range(group, SEEDS, GROUPS):
        chaos.run(seed)


@pytest.mark.parametrize(
    "faults", [Faults(), Faults(loss=0.02, delay=0.05, disk=0.005)], ids=["LAN", "50 ms and 2 % loss"]
)
def test_a_new_leader_within_a_second(faults: Faults) -> None:
    times = [failover(seed, Consensus(), faults) for seed in range(150)]
    print(f"median {statistics.median(times):.2f} s, worst {max(times):.2f} s")
    assert statistics.median(times) <= 1.0
    assert max(times) <= 2.0


def test_a_quiet_cluster_elects_once() -> None:
    world = World(0, 5)
    world.faults = Faults(loss=0.02, delay=0.05)
    world.run_until(300.0)
    assert world.leader() is not None
    assert max(process.raft.term for process in world.running.values()) <= 2


@pytest.mark.parametrize("nodes", [20, 40])
def test_many_nodes_on_a_slow_network_find_a_leader_soon(nodes: int) -> None:
    """All stand within one election timeout, and answers take up to two fifths of one: most trials overlap."""

    def first_leader(seed: int) -> float:
        world = World(seed, nodes, Consensus(heartbeat_interval_s=0.5, election_timeout_s=5.0))
        world.faults = Faults(loss=0.01, delay=1.0, disk=0.005)
        world.most_events = math.inf
        assert world.run_till(lambda: world.leader() is not None, 60.0, 0.05), f"seed {seed}"
        return world.now

    times = [first_leader(seed) for seed in range(12)]
    print(f"{nodes} nodes: median {statistics.median(times):.1f} s, worst {max(times):.1f} s")
    assert max(times) <= 20.0
