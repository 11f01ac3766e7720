"""A whole round of five node processes, against bare training of the same shards on the same cores, in one run.

    python -m bench.rounds DATA [--rounds 10] [--blocks 3] [--interval 6]

DATA is a folder that torchvision.datasets.MNIST(DATA, download=False) reads. Each block runs a real cluster (elections,
TLS, envelopes, fsync, commits) twice: with a rest between rounds (a round opens every INTERVAL seconds, and the key
pools fill up meanwhile, as they do at the default of 60 s), and back to back, where every key is made at the cost of
training, since five nodes share the cores. Then it trains the same five shards of 12,000 for as many rounds in two bare
processes: once as the textbooks do, once with the product's own loop. Blocks take turns, so that whatever else the
machine does hits all alike. A round's seconds are from its opening to its proposal, on the leader's clock. Figures are
medians over all rounds but each cluster's first two, as JSON on standard output; the ratios to plain PyTorch of each
block alone show how far to trust them.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
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
FLOORS = ("plain", "product")
"""Plain PyTorch, and the product's loop."""
WAYS = ("rested", "back_to_back")


@dataclass
class Measured:
    """What the blocks gave.

    Attributes:
        blocks: of each, the seconds of the rounds by ``WAYS`` and ``FLOORS``.
    """

    blocks: list[dict[str, list[float]]] = field(default_factory=list)
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
            seconds = {}
            for way, interval_s in zip(WAYS, (arguments.interval, 0.0), strict=True):
                lineage = run_cluster(arguments, Path(folder) / f"cluster{block}-{way}", interval_s, measured)
                seconds[way] = [model.duration_s for model in lineage if model.round > WARM_UP_ROUNDS]
            measured.blocks.append(seconds | run_floors(arguments, Path(folder) / "cache"))
    everything = {name: [one for block in measured.blocks for one in block[name]] for name in (*WAYS, *FLOORS)}
    report = {
        "rounds_of_each": len(everything["rested"]),
        **{f"{name}_s": round(statistics.median(seconds), 3) for name, seconds in everything.items()},
        **{f"{way}_to_floor": {floor: ratio(everything, way, floor) for floor in FLOORS} for way in WAYS},
        "to_plain_by_block": [{way: ratio(block, way, "plain") for way in WAYS} for block in measured.blocks],
        "resident_mb_of_a_node": {"median": statistics.median(measured.resident_mb), "most": max(measured.resident_mb)},
        "accuracy_by_round": measured.accuracy,
        "terms_seen": measured.terms,
    }
    json.dump(report, sys.stdout, indent=2)
    print()


def ratio(seconds: Mapping[str, Sequence[float]], way: str, floor: str) -> float:
    """Return how the medians compare."""
    return round(statistics.median(seconds[way]) / statistics.median(seconds[floor]), 3)


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


def run_floors(arguments: argparse.Namespace, cache: Path) -> dict[str, list[float]]:
    """Train the same shards bare, each way; return the seconds of the rounds."""
    for shard in range(NODES):
        load(arguments.data, cache, shard, NODES)
    seconds = {}
    for variant in FLOORS:
        team = Team(variant, arguments.data, cache, NODES, 2)
        team.round(0)
        seconds[variant] = [team.round(number) for number in range(1, arguments.rounds)]
        team.end()
    return seconds


if __name__ == "__main__":
    main()
