"""How fast five nodes commit small entries, at several lengths of the log: ours beside PySyncObj, in one run.

    python -m bench.commit [--lengths 10 1000 100000] [--samples 500] [--in-flight 1000] [--pysyncobj PYTHON]

Five processes each, all on this machine's loopback and disk, entries of 32 bytes, put in by the leader's own process.
Latency: one entry after the other. Throughput: many in flight. Both from the call until the caller knows it committed.

PySyncObj 0.3.17 is no dependency of ours. It is run by an interpreter of its own, by default ``.pysyncobj/bin/python``:

    python3.11 -m venv .pysyncobj && .pysyncobj/bin/pip install pysyncobj==0.3.17

Without it only ours is measured, and that is said. What the two do for an entry is not the same:

- ours: fdatasync of the log on the leader before anything is sent, and on each follower before it answers; every
  datagram is sealed with AES-256-GCM; UDP;
- PySyncObj, with its journal file, which is as close as it gets: entries go into a memory map that is never synced, so
  a commit survives kill -9 and not a power loss; no encryption and no authentication; TCP. It is measured twice: as it
  comes (entries wait for the next tick of 50 ms), and with appendEntriesUseBatch=False (each entry is sent at once).

Log compaction is off in PySyncObj, so that its log has the length that the table says. Ours is measured twice: with the
whole log kept, too, and as it comes, with snapshots. Beside both stands what the machine itself takes: fdatasync of a
small append, and a round trip of a datagram between two processes.

``warnings`` counts the lines that the nodes logged. PySyncObj's are "truncating already-applied log entries ... state
machine may have diverged": its followers cut off whatever they hold after the entry that a message follows on, also
when it is the same as what the message brings again.

JSON on standard output, a table on standard error.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.local.ports import free_base_port
from bench import floors

NODES = 5
HOST = "127.0.0.1"
ENTRY_BYTES = 32
APPEND_BYTES = 64
"""Of the record that ours appends for such an entry, about."""
DATAGRAM_BYTES = 128
LEADER_WITHIN_S = 30.0
POLL_S = 0.1
SECRET = bytes(32)
"""Of a cluster that lives for a minute on loopback."""
PYSYNCOBJ = Path(".pysyncobj/bin/python")
OURS, OURS_WHOLE = "ours", "ours, whole log"
THEIRS, THEIRS_AT_ONCE = "PySyncObj", "PySyncObj, unbatched"


@dataclass(frozen=True, slots=True)
class BenchNode:
    """A node process that takes commands as lines and answers each with a line of JSON."""

    process: subprocess.Popen[str]

    def ask(self, command: str) -> Any:
        """Return the answer to a command. Ends the benchmark if the node ended instead."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"a node ended with {self.process.wait()} when it was asked for {command}")
        return json.loads(answer)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[10, 1000, 100_000])
    parser.add_argument("--samples", type=int, default=500, help="entries for each latency")
    parser.add_argument("--entries", type=int, default=5000, help="entries for each throughput")
    parser.add_argument("--in-flight", type=int, default=1000)
    parser.add_argument("--pysyncobj", type=Path, default=PYSYNCOBJ, help="an interpreter that has PySyncObj")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; by default where temporary files go")
    arguments = parser.parse_args()
    systems = [OURS, OURS_WHOLE]
    if has_pysyncobj(arguments.pysyncobj):
        systems += [THEIRS, THEIRS_AT_ONCE]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        appends = floors.durable_appends(Path(folder), arguments.samples, APPEND_BYTES)
        trips = floors.round_trips(arguments.samples, DATAGRAM_BYTES)
        report: dict[str, Any] = {
            "nodes": NODES,
            "entry_bytes": ENTRY_BYTES,
            "in_flight": arguments.in_flight,
            "floors": {"fdatasync": latency(appends), "round_trip": latency(trips)},
        }
        for system in systems:
            report[system] = measure(system, Path(folder), arguments)
    json.dump(report, sys.stdout, indent=2)
    print()
    print_table(report, systems)


def has_pysyncobj(python: Path) -> bool:
    """Tell whether this interpreter can run the other side, and say what to do if it can't."""
    with contextlib.suppress(OSError):
        probe = "from pysyncobj.version import VERSION; print(VERSION)"
        found = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            print(f"PySyncObj {found.stdout.strip()} by {python}", file=sys.stderr)
            return True
    print(
        f"PySyncObj is left out, because {python} has none: python3.11 -m venv .pysyncobj && "
        ".pysyncobj/bin/pip install pysyncobj==0.3.17",
        file=sys.stderr,
    )
    return False


def measure(system: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Take one system's figures at each length, each with a cluster of its own."""
    figures: dict[str, Any] = {}
    for number, wanted in enumerate(arguments.lengths):
        home = folder / f"{system} {number}"
        home.mkdir()
        said = home / "said"
        with cluster(commands(system, home, arguments.pysyncobj), said) as nodes:
            leader = wait_for_leader(nodes)
            missing = max(0, wanted - leader.ask("length"))
            filling = leader.ask(f"throughput {missing} {arguments.in_flight}")
            length = leader.ask("length")
            seconds = leader.ask(f"latencies {arguments.samples}")
            taken = leader.ask(f"throughput {arguments.entries} {arguments.in_flight}")
        figures[str(wanted)] = {
            "length": length,
            "latency": latency(seconds),
            "entries_per_s": round(arguments.entries / taken),
            "warnings": len(said.read_text().splitlines()),
        }
        print(f"{system}: measured at {length} entries, which took {filling:.1f} s to commit", file=sys.stderr)
    return figures


def commands(system: str, folder: Path, pysyncobj: Path) -> list[list[str]]:
    """Return the command line of each node."""
    base = free_base_port(NODES)
    ports = {f"node{number}": base + number for number in range(NODES)}
    if system in {OURS, OURS_WHOLE}:
        return [ours(name, ports, folder, compact=system == OURS) for name in ports]
    addresses = [f"{HOST}:{port}" for port in ports.values()]
    return [
        [
            str(pysyncobj),
            str(Path(__file__).with_name("pysyncobj_node.py")),
            json.dumps(
                {
                    "me": address,
                    "others": [other for other in addresses if other != address],
                    "journal": str(folder / f"journal{number}"),
                    "batch": system == THEIRS,
                    "bytes": ENTRY_BYTES,
                }
            ),
        ]
        for number, address in enumerate(addresses)
    ]


def ours(name: str, ports: dict[str, int], folder: Path, *, compact: bool) -> list[str]:
    """Return the command line of one node of ours."""
    home = folder / name
    home.mkdir()
    settings = {
        "me": name,
        "ports": ports,
        "folder": str(home),
        "secret": SECRET.hex(),
        "bytes": ENTRY_BYTES,
        "compact": compact,
    }
    return [sys.executable, "-m", "bench.commit_node", json.dumps(settings)]


@contextlib.contextmanager
def cluster(commands: Sequence[list[str]], said: Path) -> Iterator[list[BenchNode]]:
    """Run a process for each command line, and leave none behind; what they log goes to the file ``said``."""
    processes: list[subprocess.Popen[str]] = []
    try:
        with said.open("a") as log:
            for command in commands:
                processes.append(
                    subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
                )
        yield [BenchNode(process) for process in processes]
    except BaseException:
        print(said.read_text(), end="", file=sys.stderr)
        raise
    finally:
        for process in processes:
            process.kill()
            with process:  # closes its pipes, and waits
                pass


def wait_for_leader(nodes: list[BenchNode]) -> BenchNode:
    """Return the node that leads, once it has committed all that it has."""
    end = time.monotonic() + LEADER_WITHIN_S
    while time.monotonic() < end:
        for node in nodes:
            if node.ask("leads"):
                return node
        time.sleep(POLL_S)
    raise SystemExit(f"no leader within {LEADER_WITHIN_S:.0f} s")


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """Return median and 99th percentile, in milliseconds."""
    return {
        "median_ms": round(statistics.median(seconds) * 1000, 3),
        "p99_ms": round(statistics.quantiles(seconds, n=100)[98] * 1000, 3),
    }


def print_table(report: dict[str, Any], systems: Sequence[str]) -> None:
    """Print the figures for people."""
    print(f"\n{'':22}{'log':>9}{'median ms':>12}{'p99 ms':>10}{'entries/s':>12}{'warnings':>10}", file=sys.stderr)
    for name, figures in report["floors"].items():
        print_row(name, "", figures, "", "")
    for system in systems:
        for figures in report[system].values():
            print_row(system, figures["length"], figures["latency"], figures["entries_per_s"], figures["warnings"])


def print_row(name: str, length: object, figures: dict[str, float], rate: object, warnings: object) -> None:
    """Print one line of the table."""
    latencies = f"{figures['median_ms']:>12.3f}{figures['p99_ms']:>10.3f}"
    print(f"{name:22}{length:>9}{latencies}{rate:>12}{warnings:>10}", file=sys.stderr)


if __name__ == "__main__":
    main()
