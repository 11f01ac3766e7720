"""The floor: bare PyTorch training of MNIST shards on the same cores, against the product's training loop.

    python -m bench.training_floor DATA [--shards 5] [--rounds 7] [--processes 2]

DATA is a folder that torchvision.datasets.MNIST(DATA, download=False) reads. A round trains each of the shards (12,000
images when they are five) for one epoch from the same base model, batch 64, on a few worker processes of one thread
each; a worker takes the next shard when it has finished one. No sealing, no averaging, no judging. The variants take
turns, so that whatever else the machine does hits them alike; figures are medians, as JSON on standard output.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch
from torch import nn

from appliance.training import datasets
from appliance.training.ann import Ann
from appliance.training.examples import Shard
from appliance.training.images import AnnTask
from appliance.training.trainer import Trainer
from appliance.words.settings import Data, Training

BATCH_SIZE = 64
VARIANTS = ("plain", "plain-fused", "product")

Train = Callable[[Shard, int], None]
Result = tuple[str, float]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--shards", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        seconds, memory = measure(arguments.data, Path(cache), arguments.shards, arguments.rounds, arguments.processes)
    json.dump(
        {
            "shards": arguments.shards,
            "processes": arguments.processes,
            "rounds": arguments.rounds,
            "seconds_per_round": {name: round(statistics.median(times), 3) for name, times in seconds.items()},
            "fastest_round": {name: round(min(times), 3) for name, times in seconds.items()},
            "peak_memory_mb_summed": memory,
        },
        sys.stdout,
        indent=2,
    )
    print()


def measure(
    data: Path, cache: Path, shards: int, rounds: int, processes: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Return for each variant the seconds of each round, and the peak memory in MB summed over its processes."""
    for shard in range(shards):  # by one process, so that no two prepare the same file at once
        load(data, cache, shard, shards)
    teams = {variant: Team(variant, data, cache, shards, processes) for variant in VARIANTS}
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds + 1):
        for variant, team in teams.items():
            took = team.round(number)
            if number:  # the first warms up
                seconds[variant].append(took)
    return seconds, {variant: round(team.end()) for variant, team in teams.items()}


def load(data: Path, cache: Path, shard: int, shards: int) -> Shard:
    """Return a shard of MNIST; a cache folder each, for a node's cache keeps one shard only."""
    return datasets.load(Data(source="mnist", path=data, shard=shard, shards=shards), cache / str(shard))


class Team:
    """Worker processes that train the shards of a round with one variant of the loop; idle between rounds."""

    def __init__(self, variant: str, data: Path, cache: Path, shards: int, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._shards = shards
        self._tasks: SimpleQueue[tuple[int, int] | None] = context.SimpleQueue()
        self._results: SimpleQueue[Result] = context.SimpleQueue()
        self._workers = [
            context.Process(target=work, args=(variant, data, cache, shards, self._tasks, self._results), daemon=True)
            for _ in range(processes)
        ]
        for worker in self._workers:
            worker.start()
        for _ in self._workers:
            self._results.get()

    def round(self, number: int) -> float:
        """Train every shard once and return the seconds that it took."""
        start = time.perf_counter()
        for shard in range(self._shards):
            self._tasks.put((number, shard))
        for _ in range(self._shards):
            self._results.get()
        return time.perf_counter() - start

    def end(self) -> float:
        """Stop the workers and return their peak memory in MB, summed."""
        for _ in self._workers:
            self._tasks.put(None)
        peak = sum(self._results.get()[1] for _ in self._workers)
        for worker in self._workers:
            worker.join()
        return peak


def work(
    variant: str,
    data: Path,
    cache: Path,
    shards: int,
    tasks: "SimpleQueue[tuple[int, int] | None]",
    results: "SimpleQueue[Result]",
) -> None:
    """Train what comes through the queue, until None comes."""
    held = [load(data, cache, shard, shards) for shard in range(shards)]
    train = product_training(held) if variant == "product" else plain_training(held, fused=variant == "plain-fused")
    results.put(("ready", 0.0))
    while (task := tasks.get()) is not None:
        number, shard = task
        train(held[shard], number)
        results.put(("trained", 0.0))
    results.put(("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def product_training(held: list[Shard]) -> Train:
    """Return the product's loop, weights in and out as safetensors bytes, judged on one sample only."""
    settings = Training(batch_size=BATCH_SIZE, judged_samples=1)
    trainers = {shard.number: Trainer(settings, AnnTask(shard)) for shard in held}
    base, go = trainers[0].initial_model(), threading.Event()

    def train(shard: Shard, number: int) -> None:
        trainers[shard.number].train(base, round=number, stop=go)

    return train


def plain_training(held: list[Shard], *, fused: bool) -> Train:
    """Return the loop of the textbooks: torch.optim.Adam, float32 images in memory, a new order each round."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    base = Ann().state_dict()
    tensors = {
        shard.number: (
            torch.from_numpy(shard.training.images).float() / 255,
            torch.from_numpy(shard.training.labels).long(),
        )
        for shard in held
    }

    def train(shard: Shard, number: int) -> None:
        network = Ann()
        network.load_state_dict(base)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fused)
        images, labels = tensors[shard.number]
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(number))
        for start in range(0, len(labels), BATCH_SIZE):
            places = order[start : start + BATCH_SIZE]
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[places]), labels[places]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return train


if __name__ == "__main__":
    main()
