"""Coordinate-wise median and trimmed mean (Yin et al. 2018, "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", definitions 1 and 2).

Both look at one number of the model at a time, and leave out the outer values that the updates give for it. With f
hostile updates of n > 2f the rest lies within the range of the honest values, whatever the hostile ones hold. Sample
counts have no effect: a count is only a claim, and would buy weight.
"""

from collections.abc import Sequence

import numpy as np

from appliance.aggregation.held import HeldUpdates
from appliance.aggregation.numbers import Numbers, Weights, parts
from appliance.aggregation.tensors import Array, Arrays, count_of
from appliance.words.models import ModelLayout, TensorLayout

_AT_ONCE = 1 << 18
"""Numbers of all updates together that are sorted at once: 1 MiB, and half of it at most as float64."""


class TrimmedMean:
    """The mean of what is left when the f least and the f largest values of each number are left out."""

    def __init__(self, layout: ModelLayout, attackers: int) -> None:
        """``attackers``: f; more than 2f updates are needed."""
        self._updates = HeldUpdates(layout, 2 * attackers + 1)
        self._attackers = attackers

    def add(self, update: Weights, samples: int) -> None:
        """As ``Strategy.add``."""
        self._updates.add(update, samples)

    def result(self) -> Arrays:
        """As ``Strategy.result``."""
        held = [update.weights for update in self._updates.in_order()]
        trim = self._trim(len(held))
        return {
            tensor.name: _trimmed(tensor, [weights[tensor.name] for weights in held], trim)
            for tensor in self._updates.layout
        }

    def _trim(self, updates: int) -> int:  # noqa: ARG002 - the median's depends on it
        return self._attackers


class Median(TrimmedMean):
    """The middle value of each number; of an even number of updates, the mean of the two in the middle."""

    def _trim(self, updates: int) -> int:
        return (updates - 1) // 2


def _trimmed(tensor: TensorLayout, updates: Sequence[Numbers], trim: int) -> Array:
    """Return the mean of each number's values but the ``trim`` least and largest, float32 of the tensor's shape."""
    mean = np.empty(count_of(tensor), np.float32)
    for part in parts(mean.size, max(1, _AT_ONCE // len(updates))):
        values = np.stack([numbers[part] for numbers in updates])
        values.sort(axis=0)
        kept = values[trim : len(updates) - trim]
        # In float64: two of the largest float32 have no sum in float32.
        mean[part] = kept.sum(axis=0, dtype=np.float64) / len(kept)
    return mean.reshape(tensor.shape)
