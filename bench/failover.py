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
import sys
import time

import msgspec

from appliance.experiment.failover import LEADER_STEP_S, MODEL_STEP_S, kill_and_time, leader_to_kill
from appliance.experiment.statistics import Durations, bars
from appliance.local.processes import NodeProcess
from appliance.local.watch import Safety
from bench.watch import trained_leader, training_flat_out

PAUSE_S = (0.5, 3.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pauses", action="store_true", help="stop a node for a while between two kills")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    kills = []
    safety = Safety()
    with training_flat_out() as cluster:
        for number in range(1, arguments.kills + 1):
            if arguments.pauses:
                pause(chance.choice(cluster.nodes), chance.uniform(*PAUSE_S))
            victim = leader_to_kill(cluster, chance, safety)
            kill = kill_and_time(cluster, victim)
            kills.append(kill)
            what = f"{kill.victim}, leader {kill.leader_s:.2f} s, model {kill.model_s:.2f} s"
            print(f"kill {number} of {arguments.kills}: {what}", file=sys.stderr)
            victim.start()
        trained_leader(cluster)
        safety.look(cluster.nodes)
    elections, recoveries = [kill.leader_s for kill in kills], [kill.model_s for kill in kills]
    report = {
        "kills": arguments.kills,
        "pauses": arguments.pauses,
        "seed": arguments.seed,
        "new_leader_s": msgspec.to_builtins(Durations.of(elections)),
        "next_model_s": msgspec.to_builtins(Durations.of(recoveries)),
        "last_term": max(safety.leaders),
        "problems": safety.problems,
    }
    json.dump(report, sys.stdout, indent=2)
    print()
    for title, seconds, step in (
        ("until a new leader", elections, LEADER_STEP_S),
        ("until the next committed model", recoveries, MODEL_STEP_S),
    ):
        print(f"\n{title}, seconds", *bars(seconds, step), sep="\n", file=sys.stderr)
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


if __name__ == "__main__":
    main()
