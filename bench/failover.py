"""How long five node processes are without a leader, and without a new global model, when their leader is killed.

    python -m bench.failover [--kills 10] [--seed 0]

Embedded digits, default consensus settings, rounds without rest. The leader is killed with -9 at a random moment
(seeded), the survivors are polled until one leads and until the next model is committed, then the dead one is started
again. Times include the polling (20 ms). JSON on standard output.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from appliance.demo.ports import free_base_port
from appliance.demo.processes import Cluster, NodeProcess
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.operator_api.views import Status
from appliance.words.settings import Rounds, Training

T = TypeVar("T")

NODES = 5
POLL_S = 0.02
WITHIN_S = 60.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    elections, recoveries = [], []
    with tempfile.TemporaryDirectory() as folder:
        plan = ClusterPlan(
            nodes=NODES,
            base_port=free_base_port(NODES),
            rounds=Rounds(interval_s=0.0, deadline_s=60.0),
            training=Training(epochs=30, batch_size=32),
        )
        with Cluster.running(create_cluster(Path(folder) / "cluster", plan)) as cluster:
            for kill in range(arguments.kills):
                victim = until(lambda: leader_of_all(cluster))
                time.sleep(moments.uniform(0.0, 3.0))
                election, recovery = kill_and_time(cluster, victim)
                elections.append(election)
                recoveries.append(recovery)
                print(f"kill {kill + 1}: leader {election:.2f} s, model {recovery:.2f} s", file=sys.stderr)
                victim.start()
    report = {"kills": arguments.kills, "new_leader_s": summary(elections), "next_model_s": summary(recoveries)}
    json.dump(report, sys.stdout, indent=2)
    print()


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


def leader_of_all(cluster: Cluster) -> NodeProcess | None:
    """Return the leader once every node follows it and has every peer up."""
    seen = statuses(cluster.nodes)
    leaders = {status.leader for status in seen}
    complete = len(seen) == NODES and all("down" not in status.peers.values() for status in seen)
    leader = leaders.pop() if len(leaders) == 1 else None
    trained = all(status.model is not None and status.model.version > 0 for status in seen)
    return cluster[leader] if leader is not None and complete and trained else None


def statuses(nodes: list[NodeProcess]) -> list[Status]:
    """Return the status of every node that answers."""
    return [status for status in (node.status() for node in nodes) if status is not None]


def until(condition: Callable[[], T | None]) -> T:
    """Poll until the condition holds; return what it found."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(POLL_S)
    raise SystemExit(f"a condition did not come within {WITHIN_S:.0f} s")


def summary(seconds: list[float]) -> dict[str, float]:
    """Return median and extremes."""
    return {
        "median": round(statistics.median(seconds), 2),
        "least": round(min(seconds), 2),
        "most": round(max(seconds), 2),
    }


if __name__ == "__main__":
    main()
