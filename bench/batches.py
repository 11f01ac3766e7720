"""What a per-image Python pipeline costs: seconds per epoch of 12,000 MNIST images, by where the batches come from.

    python -m bench.batches DATA [--repeats 5]

DATA is a folder that torchvision.datasets.MNIST(DATA, download=False) reads. All variants train the same network with
batch 64 on one thread:

- pipeline: torchvision's MNIST with the ToTensor transform behind a DataLoader, no workers (the usual tutorial);
- pipeline, no training: the same batches, thrown away;
- floor: plain PyTorch, default Adam, batches indexed out of one float32 tensor in memory;
- floor, fused Adam;
- product: the product's loop, uint8 images in memory.

Variants take turns; figures are medians, as JSON on standard output.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from appliance.training.ann import Ann
from appliance.training.vision import import_torchvision
from bench.training_floor import BATCH_SIZE, load, plain_training, product_training

SHARDS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        shard = load(arguments.data, Path(cache), 0, SHARDS)
    plain, fused = plain_training([shard], fused=False), plain_training([shard], fused=True)
    product = product_training([shard])
    batches = pipeline(arguments.data, len(shard.training))
    variants: dict[str, Callable[[int], None]] = {
        "pipeline": lambda _: train_on(batches),
        "pipeline, no training": lambda _: list_away(batches),
        "floor": lambda number: plain(shard, number),
        "floor, fused Adam": lambda number: fused(shard, number),
        "product": lambda number: product(shard, number),
    }
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(arguments.repeats + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run(number)
            if number:  # the first warms up
                seconds[name].append(time.perf_counter() - start)
    medians = {name: round(statistics.median(times), 3) for name, times in seconds.items()}
    json.dump({"images": len(shard.training), "seconds_per_epoch": medians}, sys.stdout, indent=2)
    print()


def pipeline(data: Path, count: int) -> Any:
    """Return a DataLoader over the first ``count`` images, one Python call after the other for each of them."""
    torchvision = import_torchvision()
    mnist = torchvision.datasets.MNIST(data, train=True, download=False, transform=torchvision.transforms.ToTensor())
    return DataLoader(Subset(mnist, range(count)), batch_size=BATCH_SIZE, shuffle=True)


def list_away(batches: Any) -> None:
    """Take every batch and do nothing with it."""
    for _ in batches:
        pass


def train_on(batches: Any) -> None:
    """Train one epoch on a DataLoader's batches, as the floor does on its own."""
    network = Ann()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for images, labels in batches:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


if __name__ == "__main__":
    main()
