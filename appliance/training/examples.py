"""Labelled images in memory, and the file that holds a node's shard of them. No torch here, and no torchvision."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError


@dataclass(frozen=True, slots=True)
class Examples:
    """Images and what they show.

    Attributes:
        images: uint8 [samples, 28, 28], 0 is background. A quarter of float32's memory; a batch becomes float32 when
            it is used, which costs nothing that can be measured.
        labels: uint8 [samples], 0 to 9.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        right_types = self.images.dtype == self.labels.dtype == np.uint8
        right_shapes = self.labels.ndim == 1 and self.images.shape == (self.labels.size, 28, 28)
        if not right_types or not right_shapes or self.labels.size == 0 or self.labels.max() > 9:
            raise ValueError("not labelled images of 28x28 bytes")

    def __len__(self) -> int:
        return int(self.labels.size)

    def take(self, indices: NDArray[np.int64]) -> "Examples":
        """Return a copy of the examples at these places, in this order."""
        return Examples(self.images[indices], self.labels[indices])


@dataclass(frozen=True, slots=True)
class Shard:
    """What one node learns from, and what it judges models by.

    Attributes:
        number: which shard it is, from 0.
        training: this node's own examples.
        held_out: the same on every node, in no special order: any first part of it is a fair sample.
    """

    number: int
    training: Examples
    held_out: Examples


def encode(training: Examples, held_out: Examples) -> bytes:
    """Return the safetensors bytes of a shard's file."""
    return safetensors.numpy.save(
        {
            "training.images": training.images,
            "training.labels": training.labels,
            "held_out.images": held_out.images,
            "held_out.labels": held_out.labels,
        }
    )


def read(path: Path) -> tuple[Examples, Examples]:
    """Return the training and the held-out examples of a file that ``encode`` made.

    Raises:
        OSError: if it can't be read.
        ValueError: if it is damaged or no such file.
    """
    try:
        tensors = safetensors.numpy.load(path.read_bytes())
        return (
            Examples(tensors["training.images"], tensors["training.labels"]),
            Examples(tensors["held_out.images"], tensors["held_out.labels"]),
        )
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is not a shard's file: {error}") from None
