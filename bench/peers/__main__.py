"""Make the environments, run all in turns, and print."""

import argparse
import dataclasses
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

import bench.peers
from appliance.training import datasets
from appliance.training.examples import Examples
from appliance.words.errors import OperatorError
from appliance.words.settings import Data, Delivery
from bench import alone
from bench.peers.contender import PARTICIPANTS, Contender, Job
from bench.peers.figures import figures
from bench.peers.floor import Floor
from bench.peers.flower import Flower
from bench.peers.flower_legacy import FlowerLegacy
from bench.peers.gossip import Gossip
from bench.peers.measure import kill, measure
from bench.peers.ours import Ours
from bench.peers.table import Entry, table

T = TypeVar("T")

CONTENDERS: tuple[Contender, ...] = (
    Floor(),
    Ours(Delivery()),
    Ours(Delivery(mode="broadcast")),
    Ours(Delivery(window_s=0.0)),
    Ours(Delivery(window_s=0.0, compression="int8")),
    FlowerLegacy(),
    Gossip(),
    Flower(),
)
MORE_ROUNDS = 200
"""Of a run whose aggregator is killed: it must not end by itself meanwhile."""


def main() -> None:
    """Measure and print."""
    arguments = _parse()
    alone.exit_when_terminated()
    chosen = [contender for contender in CONTENDERS if not arguments.only or contender.key in arguments.only]
    try:
        if not alone.is_inside():
            for contender in chosen:
                contender.prepare()
            sys.exit(alone.run_again("bench.peers"))
        alone.end_with_the_outside()
        failed = _run(arguments, chosen)
    except OperatorError as error:
        sys.exit(str(error))
    sys.exit(1 if failed else 0)


def _parse() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m bench.peers", description=bench.peers.__doc__, formatter_class=raw)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=10, help="of each run, at least 2")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each contender")
    parser.add_argument("--kills", type=int, default=1, help="aggregators killed of each contender")
    parser.add_argument("--only", nargs="+", choices=[contender.key for contender in CONTENDERS], metavar="KEY")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    arguments = parser.parse_args()
    if arguments.rounds < 2:
        parser.error("--rounds must be at least 2: the first one warms up")
    return arguments


def _run(arguments: argparse.Namespace, chosen: Sequence[Contender]) -> bool:
    """Run all; tell whether anything failed."""
    entries = {contender.key: Entry(contender.title) for contender in chosen}
    data = arguments.data.absolute()
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        _write_shards(data, shards, Path(folder) / "cache")

        def attempt(take: Callable[[Contender, Job], T], contender: Contender, what: str, rounds: int) -> list[T]:
            """Do one thing in a fresh folder; what fails is noted, and the others still have their turn."""
            print(f"{contender.key}: {what} (load {alone.load():.1f})", file=sys.stderr, flush=True)
            try:
                with tempfile.TemporaryDirectory(prefix="run-", ignore_cleanup_errors=True) as place:
                    return [take(contender, Job(data, shards, Path(place), rounds))]
            except (OperatorError, RuntimeError) as error:
                print(f"{contender.key}: {what} failed: {error}", file=sys.stderr, flush=True)
                entries[contender.key].failures.append(f"{what}: {error}")
                return []

        for number in range(1, arguments.repeats + 1):
            for contender in chosen:
                what = f"run {number} of {arguments.repeats}"
                entries[contender.key].runs += attempt(measure, contender, what, arguments.rounds)
        for number in range(1, arguments.kills + 1):
            for contender in (contender for contender in chosen if contender.can_be_killed):
                what = f"kill {number} of {arguments.kills}"
                entries[contender.key].recoveries += attempt(kill, contender, what, MORE_ROUNDS)
    _print(entries, arguments.out)
    return any(entry.failures for entry in entries.values())


def _write_shards(data: Path, folder: Path, cache: Path) -> None:
    """Write the product's own shards where the foreign programs read them."""
    folder.mkdir()
    for number in range(PARTICIPANTS):
        source = Data(source="mnist", path=data, shard=number, shards=PARTICIPANTS)
        shard = datasets.load(source, cache / str(number))
        _write(folder / f"{number}.npz", shard.training)
    _write(folder / "held-out.npz", shard.held_out)


def _write(path: Path, examples: Examples) -> None:
    np.savez(path, images=examples.images, labels=examples.labels)


def _print(entries: dict[str, Entry], out: Path | None) -> None:
    loads = [load for entry in entries.values() for run in entry.runs for load in run.load]
    if loads:
        print(f"Python {platform.python_version()}, load average {min(loads):.1f} to {max(loads):.1f}\n")
    print(table(entries, Floor.key))
    if out is not None:
        report = {
            key: {
                **dataclasses.asdict(entry),
                "figures": dataclasses.asdict(figures(entry.runs)) if entry.runs else None,
            }
            for key, entry in entries.items()
        }
        out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
