"""Norm clipping (Sun et al. 2019, "Can You Really Backdoor Federated Learning?"), with a bound from the round itself.

An update's difference from the base model is scaled down to at most the bound; then comes FedAvg. The bound is the
median of the norms of this round's differences: with f hostile updates of n > 2f it lies between the norms of two
honest ones, and nobody has to choose it. So it is with the weights: none is more than the median of the sample counts,
for a count is only a claim. At least n // 2 + 1 updates then weigh that much, so f hostile ones have at most the share
f / (n // 2 + 1), and move the model by at most that share of the bound. Equal shards weigh the same, as in FedAvg.
"""

import functools
import math
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from appliance.aggregation.fedavg import FedAvg
from appliance.aggregation.held import HeldUpdates, squared_distances
from appliance.aggregation.numbers import Combined, Weights
from appliance.aggregation.tensors import Arrays
from appliance.words.models import ModelLayout


class NormClipping:
    """The weighted mean of updates that were brought near enough to the base model."""

    def __init__(self, layout: ModelLayout, attackers: int, base: Weights) -> None:
        """``base``: the model that the round's updates were trained from. More than twice the attackers are needed."""
        self._updates = HeldUpdates(layout, 2 * attackers + 1)
        self._base = base

    def add(self, update: Weights, samples: int) -> None:
        """As ``Strategy.add``."""
        self._updates.add(update, samples)

    def result(self) -> Arrays:
        """As ``Strategy.result``."""
        held, layout = self._updates.in_order(), self._updates.layout
        norms = [math.sqrt(squared_distances([update.weights, self._base], layout)[0, 1]) for update in held]
        bound = median_low(norms)
        most_weight = median_low(update.samples for update in held)
        mean = FedAvg(layout)
        for update, norm in zip(held, norms, strict=True):
            weights = update.weights if norm <= bound else self._scaled(update.weights, bound / norm)
            mean.add(weights, min(update.samples, most_weight))
        return mean.result()

    def _scaled(self, update: Weights, scale: float) -> Weights:
        combine = functools.partial(_nearer, scale)
        return {name: Combined(self._base[name], numbers, combine) for name, numbers in update.items()}


def _nearer(scale: float, base: NDArray[np.float32], update: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the base plus ``scale``, below 1, times the update's difference from it."""
    moved = update.astype(np.float64)
    moved -= base
    moved *= scale
    moved += base
    return moved.astype(np.float32)
