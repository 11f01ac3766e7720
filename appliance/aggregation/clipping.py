"""Norm clipping (Sun et al. 2019, "Can You Really Backdoor Federated Learning?"), with a bound from the round itself.

An update's difference from the base model is scaled down to at most the bound; then comes FedAvg. The bound is the
median of the norms of this round's differences: with f hostile updates of n > 2f it lies between the norms of two
honest ones, and nobody has to choose it. So it is with the weights: none is more than the median of the sample counts,
for a count is only a claim. At least n // 2 + 1 updates then weigh that much, so f hostile ones have at most the share
f / (n // 2 + 1), and move the model by at most that share of the bound. Equal shards weigh the same, as in FedAvg.
"""

import math
from collections.abc import Mapping
from statistics import median_low

import numpy as np

from appliance.aggregation.fedavg import FedAvg
from appliance.aggregation.held import HeldUpdates, squared_distance
from appliance.aggregation.tensors import Array, Arrays
from appliance.words.models import ModelLayout


class NormClipping:
    """The weighted mean of updates that were brought near enough to the base model."""

    def __init__(self, layout: ModelLayout, attackers: int, base: Mapping[str, Array]) -> None:
        """``base``: the model that the round's updates were trained from. More than twice the attackers are needed."""
        self._updates = HeldUpdates(layout, 2 * attackers + 1)
        self._base = base

    def add(self, arrays: Mapping[str, Array], samples: int) -> None:
        """As ``Strategy.add``."""
        self._updates.add(arrays, samples)

    def result(self) -> Arrays:
        """As ``Strategy.result``. Memory: one clipped update and one sum, beside the updates."""
        held, layout = self._updates.in_order(), self._updates.layout
        norms = [math.sqrt(squared_distance(update.arrays, self._base, layout)) for update in held]
        bound = median_low(norms)
        most_weight = median_low(update.samples for update in held)
        mean = FedAvg(layout)
        for update, norm in zip(held, norms, strict=True):
            arrays = update.arrays if norm <= bound else self._scaled(update.arrays, bound / norm)
            mean.add(arrays, min(update.samples, most_weight))
        return mean.result()

    def _scaled(self, arrays: Mapping[str, Array], scale: float) -> Arrays:
        """Return the base plus ``scale``, below 1, times the update's difference from it."""
        scaled: Arrays = {}
        for name in arrays:
            base = self._base[name]
            moved = arrays[name].astype(np.float64)
            moved -= base
            moved *= scale
            moved += base
            scaled[name] = moved.astype(np.float32)
        return scaled
