"""The updates of a round, held until all are there: what a strategy needs that must see them side by side."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from appliance.aggregation.strategy import check_layout, check_update
from appliance.aggregation.tensors import Array
from appliance.words.models import ModelLayout

_CHUNK = 1 << 15
"""Numbers at once: the float64 temporaries (256 KiB each) stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Held:
    """One update, by reference.

    Attributes:
        mark: the SHA-256 of its content. By it updates have an order that is not the order in which they came, for
            where that would show: equal scores, and 0.0 beside -0.0, which sorts as its equal.
    """

    arrays: Mapping[str, Array]
    samples: int
    mark: bytes


class HeldUpdates:
    """All updates of one round. Memory: the updates' own bytes, so N times the model's; nothing is copied."""

    def __init__(self, layout: ModelLayout, least: int) -> None:
        """``least``: with fewer updates there is no result."""
        check_layout(layout)
        self.layout = layout
        self._least = least
        self._held: list[Held] = []

    def add(self, arrays: Mapping[str, Array], samples: int) -> None:
        """As ``Strategy.add``."""
        check_update(arrays, samples, self.layout)
        mark = hashlib.sha256(samples.to_bytes(8, "big"))
        for tensor in self.layout:
            mark.update(np.ascontiguousarray(arrays[tensor.name]).reshape(-1).view(np.uint8).data)
        self._held.append(Held({tensor.name: arrays[tensor.name] for tensor in self.layout}, samples, mark.digest()))

    def in_order(self) -> list[Held]:
        """Return the updates, sorted by their marks. Raises ValueError if they are too few."""
        if len(self._held) < self._least:
            raise ValueError(f"{len(self._held)} updates were added, and this strategy needs {self._least}")
        return sorted(self._held, key=lambda update: update.mark)


def squared_distance(one: Mapping[str, Array], other: Mapping[str, Array], layout: ModelLayout) -> float:
    """Return the squared Euclidean distance of two models, in float64: finite, since float32 values are.

    It is the same in both directions, bit for bit. Memory: one chunk.
    """
    squares: list[float] = []
    for tensor in layout:
        here, there = one[tensor.name].reshape(-1), other[tensor.name].reshape(-1)
        for start in range(0, here.size, _CHUNK):
            difference = here[start : start + _CHUNK].astype(np.float64)
            difference -= there[start : start + _CHUNK]
            squares.append(float(np.square(difference, out=difference).sum()))
    return math.fsum(squares)
