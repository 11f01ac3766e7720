"""Bytes on the wire of a round, for both modes of delivery, against the count that theory gives.

    python -m bench.wire [--nodes 5 10] [--rounds 20] [--compression float32]

Runs real node processes in namespaces of their own (``bench.alone``), whose loopback interface carries nothing else,
and reads that interface's own counter: all bytes of all packets, with their headers, what this program asks the nodes
for included. Theory counts models only: what it leaves out (statements, receipts, tokens, heartbeats, TLS, TCP) is the
difference.

    relay      (N - 1) updates, each sent 1 + 2 - 2/(N - 1) times; N - 1 candidates
    broadcast  (N - 1) updates, each sent N - 1 + 2 - 2/(N - 1) times; N - 1 candidates
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, get_args

from appliance.delivery.padding import padded_length
from appliance.delivery.stem import GOES_ON
from appliance.local.ports import free_base_port
from appliance.local.processes import Cluster
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.words.errors import OperatorError
from appliance.words.models import Encoding
from appliance.words.settings import Delivery, Rounds, Training
from bench import alone

WARM_UP_ROUNDS = 3
POLL_S = 0.1
WITHIN_S = 300.0
MODES: tuple[Literal["relay", "broadcast"], ...] = ("relay", "broadcast")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[5, 10])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--compression", choices=get_args(Encoding), default="float32")
    arguments = parser.parse_args()
    alone.exit_when_terminated()
    if not alone.is_inside():
        try:
            sys.exit(alone.run_again("bench.wire"))
        except OperatorError as error:
            sys.exit(str(error))
    alone.end_with_the_outside()
    print("| nodes | mode | MB a round | models alone, by theory | measured : theory |\n|---|---|---|---|---|")
    for nodes in arguments.nodes:
        for mode in MODES:
            measured, model = bytes_a_round(nodes, mode, arguments.rounds, arguments.compression)
            theory = models_a_round(nodes, mode, model, arguments.compression)
            cells = f"{measured / 1e6:.2f} | {theory / 1e6:.2f} | {measured / theory:.3f}"
            print(f"| {nodes} | {mode} | {cells} |", flush=True)


def models_a_round(nodes: int, mode: Literal["relay", "broadcast"], model: int, compression: Encoding) -> float:
    """Return the bytes of updates and candidates that a round of this mode sends on average."""
    others = nodes - 1
    hops = (1 - 1 / others) / (1 - GOES_ON)
    copies = hops + (1 if mode == "relay" else others)
    update = model // {"float32": 1, "float16": 2, "int8": 4}[compression]
    return others * copies * padded_length(update) + others * model


def bytes_a_round(
    nodes: int, mode: Literal["relay", "broadcast"], rounds: int, compression: Encoding
) -> tuple[float, int]:
    """Return the bytes that the loopback carried for a round on average, and a model's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        plan = ClusterPlan(
            nodes=nodes,
            base_port=free_base_port(nodes),
            rounds=Rounds(interval_s=0.0, deadline_s=120.0, quorum=nodes),
            training=Training(),
            delivery=Delivery(mode=mode, window_s=0.5, compression=compression),
        )
        with Cluster.running(create_cluster(Path(folder) / "cluster", plan)) as cluster:
            first, before = reached(cluster, WARM_UP_ROUNDS)
            last, after = reached(cluster, first + rounds)
            size = max(file.stat().st_size for file in Path(folder).glob("cluster/node0/state/models/*"))
            cluster.stop()
    return (after - before) / (last - first), size


def reached(cluster: Cluster, version: int) -> tuple[int, int]:
    """Wait until a version is committed; return the one that is, and the counter at that moment."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        time.sleep(POLL_S)
        status = cluster.nodes[0].status()
        if status is not None and status.model is not None and status.model.version >= version:
            return status.model.version, alone.loopback_bytes()
    raise SystemExit(f"version {version} was not committed:\n{cluster.nodes[0].last_lines(20)}")


if __name__ == "__main__":
    main()
