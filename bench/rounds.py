"""A whole round of five node processes, against bare training of the same shards on the same cores, in one run.

    python -m bench.rounds DATA [--rounds 10] [--blocks 3] [--interval 6]

DATA is a folder that torchvision.datasets.MNIST(DATA, download=False) reads. Each block runs a real cluster (elections,
TLS, envelopes, fsync, commits) twice: with a rest between rounds (a round opens every INTERVAL seconds, and the key
pools fill up meanwhile, as they do at the default of 60 s), and back to back, where every key is made at the cost of
training, since five nodes share the cores. Then it trains the same five shards of 12,000 for as many rounds in two bare
processes: once as the textbooks do, once with the product's own loop. Blocks take turns, so that whatever else the
machine does hits all alike. A round's seconds are from its opening to its proposal, on the leader's clock. Figures are
medians over all rounds but each cluster's first two, as JSON on standard output.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from appliance.local.ports import free_base_port
from appliance.local.processes import Cluster, NodeProcess
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.words.models import GlobalModel
from appliance.words.settings import Data, Delivery, Rounds
from bench.training_floor import Team, load

NODES = 5
WARM_UP_ROUNDS = 2
POLL_S = 0.2
FLOORS = {"plain": "plain PyTorch", "product": "the product's loop"}


@dataclass
class Measured:
    """What the blocks gave."""

    rested: list[float] = field(default_factory=list)
    back_to_back: list[float] = field(default_factory=list)
    floors: dict[str, list[float]] = field(default_factory=lambda: {variant: [] for variant in FLOORS})
    accuracy: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    terms: list[int] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--interval", type=float, default=6.0)
    arguments = parser.parse_args()
    measured = Measured()
    with tempfile.TemporaryDirectory() as folder:
        for block in range(arguments.blocks):
            for interval_s, rounds in ((arguments.interval, measured.rested), (0.0, measured.back_to_back)):
                lineage = run_cluster(arguments, Path(folder) / f"cluster{block}-{interval_s:g}", interval_s, measured)
                rounds += [model.duration_s for model in lineage if model.round > WARM_UP_ROUNDS]
            run_floors(arguments, Path(folder) / "cache", measured)
    floors = {variant: statistics.median(seconds) for variant, seconds in measured.floors.items()}
    rested, back_to_back = statistics.median(measured.rested), statistics.median(measured.back_to_back)
    report = {
        "rounds_of_each": len(measured.rested),
        "floor_s": {variant: round(seconds, 3) for variant, seconds in floors.items()},
        "rested_s": {"median": round(rested, 3), "fastest": round(min(measured.rested), 3)},
        "rested_to_floor": {variant: round(rested / seconds, 3) for variant, seconds in floors.items()},
        "back_to_back_s": {"median": round(back_to_back, 3), "fastest": round(min(measured.back_to_back), 3)},
        "back_to_back_to_floor": {variant: round(back_to_back / seconds, 3) for variant, seconds in floors.items()},
        "resident_mb_of_a_node": {"median": statistics.median(measured.resident_mb), "most": max(measured.resident_mb)},
        "accuracy_by_round": measured.accuracy,
        "terms_seen": measured.terms,
    }
    json.dump(report, sys.stdout, indent=2)
    print()


def run_cluster(
    arguments: argparse.Namespace, folder: Path, interval_s: float, measured: Measured
) -> list[GlobalModel]:
    """Run one cluster for the rounds, take its figures, and return its lineage."""
    plan = ClusterPlan(
        nodes=NODES,
        base_port=free_base_port(NODES),
        data=Data(source="mnist", path=arguments.data),
        rounds=Rounds(interval_s=interval_s, deadline_s=120.0),
        # The random moment is a wait by choice: without it, what the machine does is measured.
        delivery=Delivery(window_s=0.0),
    )
    with Cluster.running(create_cluster(folder, plan)) as cluster:
        lineage = wait_for_rounds(cluster, arguments.rounds)
        measured.resident_mb += [round(resident_mb(node), 1) for node in cluster.nodes]
        measured.terms.append(lineage[-1].term)
        cluster.stop()
    measured.accuracy = [round(model.accuracy, 4) for model in lineage]
    return lineage


def wait_for_rounds(cluster: Cluster, rounds: int) -> list[GlobalModel]:
    """Poll, seldom enough not to disturb, until the rounds are committed."""
    end = time.monotonic() + 60.0 + 20.0 * rounds
    while time.monotonic() < end:
        time.sleep(POLL_S)
        status = cluster.nodes[0].status()
        if status is not None and status.model is not None and status.model.version >= rounds:
            return cluster.nodes[0].lineage()
    raise SystemExit(f"the cluster did not commit {rounds} rounds:\n{cluster.nodes[0].last_lines(20)}")


def resident_mb(node: NodeProcess) -> float:
    """Return the resident memory of a node's process and of its key maker, in MB."""
    assert node.process is not None
    pid = node.process.pid
    threads = Path(f"/proc/{pid}/task").glob("*/children")  # a child belongs to the thread that started it
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    return sum(_resident_kb(process) for process in (pid, *children)) / 1024


def _resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def run_floors(arguments: argparse.Namespace, cache: Path, measured: Measured) -> None:
    """Train the same shards bare, each way."""
    for shard in range(NODES):
        load(arguments.data, cache, shard, NODES)
    for variant in FLOORS:
        team = Team(variant, arguments.data, cache, NODES, 2)
        team.round(0)
        measured.floors[variant] += [team.round(number) for number in range(1, arguments.rounds)]
        team.end()


if __name__ == "__main__":
    main()
