"""How fast a killed leader is replaced, and how often one is replaced for nothing, by settings and by network.

``python -m tests.simulation.consensus.timing`` prints the table of docs/consensus.md; all times are virtual.
"""

import argparse
import math
import statistics
from dataclasses import dataclass

from appliance.consensus.ready import Role
from appliance.words.settings import Consensus
from tests.simulation.consensus.world import Faults, World

SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Network:
    """Delays are uniform, up to ``delay`` one way."""

    name: str
    delay: float
    loss: float

    @property
    def faults(self) -> Faults:
        return Faults(loss=self.loss, delay=self.delay, disk=0.005)


LAN = Network("LAN: 1 ms", 0.001, 0.0)
SLOW = Network("50 ms, 2 % loss", 0.05, 0.02)
WAN = Network("150 ms, 2 % loss", 0.15, 0.02)
BAD = Network("300 ms, 5 % loss", 0.3, 0.05)

CASES = [
    (Consensus(), LAN),
    (Consensus(), SLOW),
    (Consensus(heartbeat_interval_s=0.3, election_timeout_s=1.5), WAN),
    (Consensus(heartbeat_interval_s=0.6, election_timeout_s=3.0), BAD),
]


def failover(seed: int, settings: Consensus, faults: Faults) -> float:
    """Return the virtual seconds from a leader's death to a new leader that may act; five nodes."""
    world = World(seed, 5, settings)
    world.faults = faults

    def settled() -> bool:
        leader = world.leader()
        return leader is not None and world.raft(leader).settled

    bound = 40 * settings.election_timeout_s
    assert world.run_till(settled, bound)
    world.run_until(world.now + 2 * settings.election_timeout_s + world.random.random())
    leader = world.leader()
    assert leader is not None
    world.crash(leader)
    start = world.now
    assert world.run_till(settled, bound)
    return world.now - start


def elections_for_nothing(seed: int, settings: Consensus, faults: Faults, seconds: float) -> int:
    """Return how many terms began after the first leader's, while nothing but the network was at fault."""
    world = World(seed, 5, settings)
    world.faults = faults
    world.most_events = math.inf
    assert world.run_till(lambda: world.leader() is not None, 40 * settings.election_timeout_s)
    first = max(process.raft.term for process in world.running.values())
    world.run_until(world.now + seconds)
    assert any(process.raft.role is Role.LEADER for process in world.running.values())
    return max(process.raft.term for process in world.running.values()) - first


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=1.0, help="virtual, of quiet, for elections without a cause")
    options = parser.parse_args()
    print("| network (one way) | heartbeat | election timeout | new leader: median | 99 % | worst | needless an hour |")
    print("|---|---|---|---|---|---|---|")
    for settings, network in CASES:
        times = sorted(failover(seed, settings, network.faults) for seed in range(options.kills))
        needless = elections_for_nothing(0, settings, network.faults, options.hours * SECONDS_AN_HOUR) / options.hours
        print(
            f"| {network.name} | {settings.heartbeat_interval_s:g} s | {settings.election_timeout_s:g} s | "
            f"{statistics.median(times):.2f} s | {times[int(len(times) * 0.99)]:.2f} s | {times[-1]:.2f} s | "
            f"{needless:g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
