"""Whether five nodes that train flat out on this machine ever start an election that nobody needs.

    python -m bench.elections [--minutes 30]

Embedded digits, default consensus settings, rounds without rest. From the moment when all follow one leader, no node
dies and none resigns (the period is 24 h): every later term is a spurious election. JSON on standard output, a line
a minute on standard error; exits with 1 if there was any, or if the nodes tell of two leaders in one term.

The longest gap is the longest time between two committed models: what an election, or a wait, costs the training.
"""

import argparse
import json
import os
import sys
import time
from itertools import pairwise

from appliance.local.processes import Cluster
from appliance.local.watch import Safety, statuses
from bench.watch import trained_leader, training_flat_out

LOOK_EVERY_S = 5.0
SAY_EVERY_S = 60.0


def main() -> None:
    """Watch and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    arguments = parser.parse_args()
    safety = Safety()
    with training_flat_out() as cluster:
        leader = trained_leader(cluster)
        first = max(status.term for status in statuses(cluster.nodes))
        began = time.monotonic()
        watch(cluster, safety, arguments.minutes * 60)
        seconds = time.monotonic() - began
        lineage = max((node.lineage() for node in cluster.nodes if node.is_running), key=len)
        running = sum(node.is_running for node in cluster.nodes)
        last = max(status.term for status in statuses(cluster.nodes))
    times = [model.committed_at for model in lineage]
    report = {
        "minutes": round(seconds / 60, 2),
        "cores": os.cpu_count(),
        "first_leader": leader.name,
        "first_term": first,
        "last_term": last,
        "elections": last - first,
        "rounds": len(lineage) - 1,
        "longest_gap_s": round(max((later - earlier for earlier, later in pairwise(times)), default=0.0), 2),
        "nodes_running": running,
        "problems": safety.problems,
    }
    json.dump(report, sys.stdout, indent=2)
    print()
    if last > first or safety.problems or running < len(cluster.nodes):
        raise SystemExit(1)


def watch(cluster: Cluster, safety: Safety, seconds: float) -> None:
    """Look now and then, seldom enough not to disturb; say how it goes."""
    end = time.monotonic() + seconds
    say_at = time.monotonic() + SAY_EVERY_S
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_EVERY_S))
        safety.look(cluster.nodes)
        if time.monotonic() >= say_at:
            say_at += SAY_EVERY_S
            seen = statuses(cluster.nodes)
            terms = {status.term for status in seen}
            print(f"{left / 60:.0f} min left: round {max(s.round for s in seen)}, terms {terms}", file=sys.stderr)


if __name__ == "__main__":
    main()
