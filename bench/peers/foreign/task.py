"""The task that all foreign libraries are given: the paper's network, a shard of MNIST, the loop of the textbooks."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

Weights = list[NDArray[np.float32]]

BATCH_SIZE = 64
LEARNING_RATE = 1e-3
SHARDS = 5


class Task:
    """One shard, and the network that learns from it. Sets PyTorch to one thread.

    Args:
        shard: from 0; None for who only judges.
        judges: the held-out images are needed.
    """

    def __init__(self, shard: int | None, *, judges: bool) -> None:
        torch.set_num_threads(1)
        folder = Path(os.environ["P2PFL_BENCH_SHARDS"])
        self._shard = shard
        self._examples = _load(folder / f"{shard}.npz") if shard is not None else None
        self._held_out = _load(folder / "held-out.npz") if judges else None
        torch.manual_seed(0)
        self._network = _network()

    @property
    def samples(self) -> int:
        """Images in the shard."""
        return 0 if self._examples is None else len(self._examples[1])

    def weights(self) -> Weights:
        """Return the network's weights; of a fresh one the same in every process."""
        return [tensor.numpy().copy() for tensor in self._network.state_dict().values()]

    def train(self, base: Weights, round_: int) -> Weights:
        """Train for one epoch from a base model with fresh moments; return the weights."""
        if self._examples is None:
            raise RuntimeError("there is no shard to train on")
        images, labels = self._examples
        self._load_weights(base)
        optimizer = torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
        seed = round_ * SHARDS + (self._shard or 0)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        for start in range(0, len(order), BATCH_SIZE):
            places = order[start : start + BATCH_SIZE]
            optimizer.zero_grad()
            loss = functional.cross_entropy(self._network(images[places]), labels[places])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return self.weights()

    def accuracy(self, model: Weights) -> float:
        """Return the share of the held-out images that a model gets right, 0 to 1."""
        if self._held_out is None:
            raise RuntimeError("there is nothing held out")
        images, labels = self._held_out
        self._load_weights(model)
        with torch.inference_mode():
            right = sum(
                int((self._network(images[start : start + 500]).argmax(1) == labels[start : start + 500]).sum())
                for start in range(0, len(labels), 500)
            )
        return right / len(labels)

    def _load_weights(self, weights: Weights) -> None:
        names = self._network.state_dict().keys()
        tensors = (torch.from_numpy(np.array(array)) for array in weights)
        self._network.load_state_dict(dict(zip(names, tensors, strict=True)))


def mean(updates: Sequence[Weights]) -> Weights:
    """Return the mean of updates of shards of one size."""
    return [np.mean(arrays, axis=0, dtype=np.float32) for arrays in zip(*updates, strict=True)]


def tell(round_: int, at: float, accuracy: float | None) -> None:
    """Tell the benchmark of a global model: one line, written at once."""
    line = json.dumps({"round": round_, "at": at, "accuracy": accuracy}) + "\n"
    with Path(os.environ["P2PFL_BENCH_MODELS"]).open("a") as file:
        file.write(line)


def now() -> float:
    """Return the machine's monotonic clock, which all processes share."""
    return time.monotonic()


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 2096), nn.ReLU(), nn.Linear(2096, 10)
    )


def _load(path: Path) -> tuple[Tensor, Tensor]:
    with np.load(path) as arrays:
        return torch.from_numpy(arrays["images"]).float() / 255, torch.from_numpy(arrays["labels"]).long()
