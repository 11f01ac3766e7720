"""The updates of a round, for a strategy that must see them side by side."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from appliance.aggregation.numbers import Weights, parts
from appliance.aggregation.strategy import check_layout, check_update
from appliance.aggregation.tensors import count_of
from appliance.words.models import ModelLayout


@dataclass(frozen=True, slots=True)
class Held:
    """One update, by reference.

    Attributes:
        mark: the SHA-256 of its content. By it updates have an order that is not the order in which they came, for
            where that would show: equal scores, and 0.0 beside -0.0, which sorts as its equal.
    """

    weights: Weights
    samples: int
    mark: bytes


class HeldUpdates:
    """All updates of one round; nothing is copied."""

    def __init__(self, layout: ModelLayout, least: int) -> None:
        """``least``: with fewer updates there is no result."""
        check_layout(layout)
        self.layout = layout
        self._least = least
        self._held: list[Held] = []

    def add(self, update: Weights, samples: int) -> None:
        """As ``Strategy.add``."""
        check_update(update, samples, self.layout)
        mark = hashlib.sha256(samples.to_bytes(8, "big"))
        for tensor in self.layout:
            for part in parts(count_of(tensor)):
                mark.update(np.ascontiguousarray(update[tensor.name][part]).view(np.uint8).data)
        self._held.append(Held(update, samples, mark.digest()))

    def in_order(self) -> list[Held]:
        """Return the updates, sorted by their marks. Raises ValueError if they are too few."""
        if len(self._held) < self._least:
            raise ValueError(f"{len(self._held)} updates were added, and this strategy needs {self._least}")
        return sorted(self._held, key=lambda update: update.mark)


def squared_distances(models: Sequence[Weights], layout: ModelLayout) -> dict[tuple[int, int], float]:
    """Return the squared Euclidean distance of each two models, in float64: finite, since float32 values are.

    By their places, the lower one first. The order of two models has no effect, bit for bit. Each model is read once.
    """
    squares: dict[tuple[int, int], list[float]] = defaultdict(list)
    for tensor in layout:
        for part in parts(count_of(tensor)):
            read = [model[tensor.name][part].astype(np.float64) for model in models]
            for one, other in combinations(range(len(models)), 2):
                difference = read[one] - read[other]
                squares[one, other].append(float(np.square(difference, out=difference).sum()))
    return {pair: math.fsum(each) for pair, each in squares.items()}
