"""Clients use a replicated register while it is harmed; then the checker judges what they saw.

    python -m tests.linearizability.run [--seconds 300] [--seed 0] [--clients 6] [--stale-reads]

Five real processes with the real driver, over real UDP behind a network that loses 2 % and doubles 5 %, real fsync,
kill -9, SIGSTOP and cuts in one direction or both. With --stale-reads clients read what any node holds, so that the
checker must find a violation. JSON on standard output; exits with 1 if there is a violation, and then keeps the history
as JSON in the current folder. The seed fixes the order of harm and of operations, not what the machine makes of it.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
from msgspec import Struct

from tests.linearizability.checker import Violation, find_violation
from tests.linearizability.clients import PATIENCE_S, Client
from tests.linearizability.cluster import RegisterCluster
from tests.linearizability.history import Operation
from tests.linearizability.nemesis import Nemesis
from tests.process.udp_proxy import Quality

NODES = 5
KEYS = ("a", "b", "c")
NETWORK = Quality(loss=0.02, duplication=0.05, jitter_s=0.003)
SHOWN = 12
"""Operations before a violation that are shown."""


class Outcome(Struct, frozen=True):
    """What a run was.

    Attributes:
        done: operations with a response, by kind; ``unknown`` are those without.
        harm: how often each kind of harm was done.
        last_term, snapshots: of the cluster in the end; nodes whose log begins with a snapshot.
        network: what the proxy did to how many datagrams.
    """

    history: list[Operation]
    done: dict[str, int]
    harm: dict[str, int]
    last_term: int
    snapshots: int
    network: dict[str, int]
    logs: str


def run(folder: Path, *, seed: int, seconds: float, clients: int = 6, stale_reads: bool = False) -> Outcome:
    """Run a cluster, harm it, and return what clients saw."""
    stop = threading.Event()
    with RegisterCluster(folder, NODES, seed=seed, quality=NETWORK) as cluster:
        cluster.wait_leader()
        nemesis = Nemesis(cluster, seed=seed)
        team = [
            Client(f"client{number}", cluster.ports, KEYS, seed=seed, stop=stop, stale_reads=stale_reads)
            for number in range(clients)
        ]
        for client in team:
            client.start()
        try:
            nemesis.run(seconds)
            cluster.wait_leader()
        finally:
            stop.set()
            for client in team:
                client.join(2 * PATIENCE_S)
        assert not any(client.is_alive() for client in team)
        statuses = [status for name in cluster.names if (status := cluster.status(name)) is not None]
        assert cluster.ended == [], cluster.logs()
        history = sorted((o for client in team for o in client.history), key=lambda operation: operation.invoked)
        return Outcome(
            history=history,
            done=dict(Counter("unknown" if o.returned is None else o.kind for o in history)),
            harm=dict(nemesis.done),
            last_term=max(status.term for status in statuses),
            snapshots=sum(status.first_index > 1 for status in statuses),
            network=dict(cluster.network.counts),
            logs=cluster.logs(),
        )


def describe(violation: Violation) -> str:
    """Return the end of the longest order, and what fits nowhere after it."""
    lines = [f"register {violation.key}: the longest order that explains what was seen ends with"]
    lines += [f"  {_line(operation)}" for operation in violation.explained[-SHOWN:]]
    return "\n".join([*lines, "and then this fits nowhere:", f"  {_line(violation.stuck)}"])


def _line(operation: Operation) -> str:
    returned = "never" if operation.returned is None else f"{operation.returned:.4f}"
    saw = {"read": "", "write": operation.value, "cas": f"{operation.expected} -> {operation.value}"}[operation.kind]
    return f"{operation.invoked:.4f} to {returned} {operation.client} {operation.kind} {saw} saw {operation.seen}"


def main() -> None:
    """Run, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--stale-reads", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(
            Path(folder),
            seed=arguments.seed,
            seconds=arguments.seconds,
            clients=arguments.clients,
            stale_reads=arguments.stale_reads,
        )
    began = time.monotonic()
    violation = find_violation(outcome.history)
    report = {
        "seed": arguments.seed,
        "seconds": arguments.seconds,
        "operations": outcome.done,
        "harm": outcome.harm,
        "last_term": outcome.last_term,
        "nodes_with_snapshots": outcome.snapshots,
        "network": outcome.network,
        "judged_in_s": round(time.monotonic() - began, 2),
        "linearizable": violation is None,
    }
    json.dump(report, sys.stdout, indent=2)
    print()
    print(outcome.logs, end="", file=sys.stderr)
    if violation is not None:
        file = Path(f"history-{arguments.seed}.json")
        file.write_bytes(msgspec.json.format(msgspec.json.encode(outcome.history)))
        raise SystemExit(f"{describe(violation)}\nthe whole history is in {file}")


if __name__ == "__main__":
    main()
