"""How long five node processes are without a leader, and without a new global model, when their leader is killed.

    python -m bench.failover [--kills 100] [--seed 0] [--pauses]

Embedded digits, default consensus settings, rounds without rest, so that every node trains all the time. The leader is
killed with -9 at a random moment (seeded), the survivors are polled until one leads and until the next model is
committed, then the dead one is started again. Times include the polling (20 ms). With --pauses, some node (the leader
too) is stopped for 0.5 to 3 s between two kills, and goes on.

All along it looks for what must never be: lineages that fork, and terms with two leaders, as /v1/elections of all nodes
tells. If it finds any, it says so and exits with 1. JSON on standard output; progress and histograms on standard error.
"""

import argparse
import json
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence

from appliance.local.processes import Cluster, NodeProcess
from bench.watch import Safety, leader_of_all, statuses, training_flat_out, until

SETTLES_WITHIN_S = 3.0
"""The longest time that a new leader leads before it is killed."""
PAUSE_S = (0.5, 3.0)
BAR = 60


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pauses", action="store_true", help="stop a node for a while between two kills")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    elections, recoveries = [], []
    safety = Safety()
    with training_flat_out() as cluster:
        for kill in range(arguments.kills):
            if arguments.pauses:
                pause(chance.choice(cluster.nodes), chance.uniform(*PAUSE_S))
            victim = leader_to_kill(cluster, chance, safety)
            election, recovery = kill_and_time(cluster, victim)
            elections.append(election)
            recoveries.append(recovery)
            print(
                f"kill {kill + 1} of {arguments.kills}: {victim.name}, leader {election:.2f} s, model {recovery:.2f} s",
                file=sys.stderr,
            )
            victim.start()
        until(lambda: leader_of_all(cluster))
        safety.look(cluster.nodes)
    report = {
        "kills": arguments.kills,
        "pauses": arguments.pauses,
        "seed": arguments.seed,
        "new_leader_s": summary(elections),
        "next_model_s": summary(recoveries),
        "last_term": max(safety.leaders),
        "problems": safety.problems,
    }
    json.dump(report, sys.stdout, indent=2)
    print()
    histogram("until a new leader", elections, 0.1)
    histogram("until the next committed model", recoveries, 0.25)
    if safety.problems:
        raise SystemExit("\n".join(safety.problems))


def pause(node: NodeProcess, seconds: float) -> None:
    """Stop a node as if its machine had frozen, and let it go on."""
    if node.process is None:
        return
    node.process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        node.process.send_signal(signal.SIGCONT)


def leader_to_kill(cluster: Cluster, chance: random.Random, safety: Safety) -> NodeProcess:
    """Wait until all is well, and then for a random time; return who leads then."""
    while True:
        leader = until(lambda: leader_of_all(cluster))
        time.sleep(chance.uniform(0.0, SETTLES_WITHIN_S))
        safety.look(cluster.nodes)
        status = leader.status()
        if status is not None and status.role == "leader":
            return leader


def kill_and_time(cluster: Cluster, victim: NodeProcess) -> tuple[float, float]:
    """Kill a leader; return the seconds to the next leader and to the next committed model."""
    survivors = [node for node in cluster.nodes if node is not victim]
    version = max(status.model.version for status in statuses(survivors) if status.model is not None)
    killed = time.monotonic()
    victim.kill()

    def led() -> bool:
        return any(status.leader not in (None, victim.name) for status in statuses(survivors))

    def committed() -> bool:
        return any(status.model is not None and status.model.version > version for status in statuses(survivors))

    until(led)
    election = time.monotonic() - killed
    until(committed)
    return election, time.monotonic() - killed


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Return what tells the distribution, in seconds."""
    ordered = sorted(seconds)
    return {
        "least": round(ordered[0], 2),
        "median": round(statistics.median(ordered), 2),
        "p90": round(ordered[(len(ordered) * 9 - 1) // 10], 2),
        "p99": round(ordered[(len(ordered) * 99 - 1) // 100], 2),
        "worst": round(ordered[-1], 2),
    }


def histogram(title: str, seconds: Sequence[float], step: float) -> None:
    """Print how many there are in each step."""
    counts = Counter(int(second / step) for second in seconds)
    scale = min(1.0, BAR / max(counts.values()))
    print(f"\n{title}, seconds", file=sys.stderr)
    for place in range(min(counts), max(counts) + 1):
        bar = "#" * round(counts[place] * scale)
        print(f"{place * step:6.2f} to {(place + 1) * step:5.2f} {counts[place]:4} {bar}", file=sys.stderr)


if __name__ == "__main__":
    main()
