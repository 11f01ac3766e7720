"""What a round costs with more and more nodes on one machine, in both modes of delivery, and how that grows.

    python -m bench.scaling [--nodes 5 10 20 40] [--rounds 10] [--modes relay broadcast] [--model paper] [--out FILE]

Real node processes in namespaces of their own (``bench.alone``), back to back. The network is the paper's (1.57 MB), or
with ``--model tiny`` one of 31 KB (``bench.networks``), whose bytes hardly matter; each node has so few images (the
embedded digits, shared out) that its epoch takes some milliseconds: what is left of a round is overhead. The window in
which updates are sent is 0, for it is a wait by choice, and elections have time (20 s), for many nodes on few cores
hear each other late, and elections are not what is measured. All nodes share the machine's cores here; so beside the
seconds of a round stands what a node needs of a processor, which is what it would need on a machine of its own too. The
keys that each round takes are in both.

- s a round: median seconds from one committed model to the next, by the leaders' clocks;
- CPU s a node: user and system time of all processes, over nodes and rounds;
- MB a node: all bytes on the loopback, with all headers, over nodes and rounds;
- growth: b of the power law nodes^b that fits best.

A size for which the machine lacks memory is left out, and that is said. A Markdown table on standard output, JSON in
FILE, progress on standard error.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.local.ports import free_base_port
from appliance.local.processes import Cluster
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.words.errors import OperatorError
from appliance.words.settings import Consensus, Delivery, Rounds, Task, Training
from bench import alone, networks
from bench.fit import exponent

Mode = Literal["relay", "broadcast"]

MODES: tuple[Mode, ...] = ("relay", "broadcast")
MODELS = {"paper": Task(), "tiny": networks.setting("tiny")}
MB_A_NODE = 420
"""What a node and its key maker take at most, with some room."""
MB_SPARE = 4000
WARM_UP_ROUNDS = 3
PATIENT = Consensus(heartbeat_interval_s=1.0, election_timeout_s=20.0)
POLL_S = 0.5
BEGINS_WITHIN_S = 60.0
BEGINS_WITHIN_S_A_NODE = 15.0
ROUND_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a round cost with so many nodes.

    Attributes:
        round_s: median seconds from one model to the next.
        cpu_s: of a processor, a node and round.
        mb: on the wire, a node and round.
        pss_mb: of a node and its key maker, the most.
        term: of the last model: more than one says that a leader was lost on the way.
        load: the machine's, in the end.
    """

    nodes: int
    mode: Mode
    round_s: float
    cpu_s: float
    mb: float
    pss_mb: float
    term: int
    load: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[5, 10, 20, 40])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--model", choices=MODELS, default="paper")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    arguments = parser.parse_args()
    alone.exit_when_terminated()
    try:
        if not alone.is_inside():
            sys.exit(alone.run_again("bench.scaling"))
        alone.end_with_the_outside()
        costs, failed = _measure_all(arguments)
    except OperatorError as error:
        sys.exit(str(error))
    print(table(costs))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps([dataclasses.asdict(cost) for cost in costs], indent=2) + "\n")
    sys.exit(1 if failed else 0)


def _measure_all(arguments: argparse.Namespace) -> tuple[list[Cost], bool]:
    """Return what could be measured, and whether something could not."""
    costs, failed = [], False
    for nodes in arguments.nodes:
        for mode in arguments.modes:
            _say(f"{nodes} nodes, {mode} (load {alone.load():.1f})")
            try:
                costs.append(measure(nodes, mode, arguments.rounds, MODELS[arguments.model]))
                _say(f"  {costs[-1]}")  # so that a run that is broken off has told what it knew
            except OperatorError as error:
                _say(f"{nodes} nodes, {mode}: {error}")
                failed = True
    return costs, failed


def measure(nodes: int, mode: Mode, rounds: int, task: Task) -> Cost:
    """Run a cluster for the rounds. Raises OperatorError if the machine is too small, or they don't come."""
    if (needed := nodes * MB_A_NODE + MB_SPARE) > (free := _available_mb()):
        raise OperatorError(f"left out, it needs about {needed:,} MB of memory and {free:,.0f} MB are available")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, alone.nothing_left():
        plan = ClusterPlan(
            nodes=nodes,
            base_port=free_base_port(nodes),
            consensus=PATIENT,
            rounds=Rounds(interval_s=0.0, deadline_s=ROUND_WITHIN_S, quorum=nodes),
            task=task,
            training=Training(),
            delivery=Delivery(mode=mode, window_s=0.0),
        )
        with Cluster.running(create_cluster(Path(folder) / "cluster", plan)) as cluster:
            begins_within = BEGINS_WITHIN_S + BEGINS_WITHIN_S_A_NODE * nodes
            first = _reached(cluster, WARM_UP_ROUNDS, begins_within + ROUND_WITHIN_S * WARM_UP_ROUNDS)
            sent, used = alone.loopback_bytes(), _cpu_s()
            with alone.MemoryWatch(every_s=5.0) as memory:
                last = _reached(cluster, first + rounds, ROUND_WITHIN_S * rounds)
            done = (last - first) * nodes
            mb, cpu = (alone.loopback_bytes() - sent) / 1e6 / done, (_cpu_s() - used) / done
            lineage = cluster.nodes[0].lineage()[first : last + 1]
    return Cost(
        nodes=nodes,
        mode=mode,
        round_s=statistics.median(
            later.committed_at - earlier.committed_at for earlier, later in itertools.pairwise(lineage)
        ),
        cpu_s=cpu,
        mb=mb,
        pss_mb=memory.peak.pss / nodes,
        term=lineage[-1].term,
        load=alone.load(),
    )


def _reached(cluster: Cluster, version: int, within_s: float) -> int:
    """Wait until a version is committed; return the one that is."""
    end, seen = time.monotonic() + within_s, None
    while time.monotonic() < end:
        time.sleep(POLL_S)
        if ended := [node for node in cluster.nodes if not node.is_running]:
            raise OperatorError(f"{ended[0].name} ended:\n{ended[0].last_lines(10)}")
        if _available_mb() < MB_SPARE / 2:
            # Before the kernel ends some process, perhaps somebody else's.
            raise OperatorError("ended, as the machine has little memory left")
        status = cluster.nodes[0].status()
        if status is None or status.model is None:
            continue
        if status.model.version != seen:
            seen = status.model.version
            _say(f"  version {seen} of {version}")
        if seen >= version:
            return seen
    raise OperatorError(f"version {version} was not committed in {within_s:.0f} s:\n{cluster.nodes[0].last_lines(10)}")


def _cpu_s() -> float:
    """Return what all processes here but this one have used so far; those that have ended are in their parents."""
    ticks = 0
    for process in alone.others():
        with contextlib.suppress(OSError):  # it has ended
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _available_mb() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024 / 1e6


def table(costs: Sequence[Cost]) -> str:
    """Return the costs as a Markdown table, with the growth of each mode under its rows."""
    lines = [
        "| nodes | mode | s a round | CPU s a node | MB a node | PSS of a node, MB | last term | load |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for mode in MODES:
        of_mode = [cost for cost in costs if cost.mode == mode]
        lines += [
            f"| {cost.nodes} | {mode} | {cost.round_s:.2f} | {cost.cpu_s:.3f} | {cost.mb:.2f} | {cost.pss_mb:.0f}"
            f" | {cost.term} | {cost.load:.1f} |"
            for cost in of_mode
        ]
        if len({cost.nodes for cost in of_mode}) > 1:
            sizes = [float(cost.nodes) for cost in of_mode]
            growth = (
                exponent(sizes, figures)
                for figures in (
                    [cost.round_s for cost in of_mode],
                    [cost.cpu_s for cost in of_mode],
                    [cost.mb for cost in of_mode],
                )
            )
            lines.append(f"| growth | {mode} | " + " | ".join(f"nodes^{b:.2f}" for b in growth) + " | | | |")
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
