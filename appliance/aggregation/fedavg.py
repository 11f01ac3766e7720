"""FederatedAveraging (McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
Algorithm 1): the mean of the updates, each weighted by its number of training samples.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from appliance.aggregation.numbers import Weights, parts
from appliance.aggregation.strategy import check_layout, check_update
from appliance.aggregation.tensors import Array, Arrays, count_of
from appliance.words.models import ModelLayout, TensorLayout


class FedAvg:
    """The weighted mean. Memory: the result, and some parts of the updates, however many they are."""

    def __init__(self, layout: ModelLayout) -> None:
        check_layout(layout)
        self._layout = layout
        self._updates: list[tuple[Weights, int]] = []

    def add(self, update: Weights, samples: int) -> None:
        """As ``Strategy.add``."""
        check_update(update, samples, self._layout)
        self._updates.append((update, samples))

    def result(self) -> Arrays:
        """Return the weighted mean, float32 tensors of the layout. Raises ValueError if no update was added."""
        return {tensor.name: self.mean_of(tensor) for tensor in self._layout}

    def mean_of(self, tensor: TensorLayout) -> Array:
        """Return the weighted mean of one tensor. Raises ValueError if no update was added."""
        if not self._updates:
            raise ValueError("no update was added")
        mean = np.empty(count_of(tensor), np.float32)
        samples = sum(samples for _, samples in self._updates)
        for part in parts(mean.size):
            terms = ((update[tensor.name][part], weight) for update, weight in self._updates)
            mean[part] = _exact_sum(terms, part.stop - part.start) / samples
        return mean.reshape(tensor.shape)


def _exact_sum(terms: Iterable[tuple[NDArray[np.float32], int]], count: int) -> NDArray[np.float64]:
    """Return the sum of all values times their weights, which does not depend on the order of the terms.

    A float32 times a sample count below 2**29 is exact in float64; what each addition then rounds away is kept beside
    the sum (TwoSum: Knuth, TAOCP volume 2, section 4.2.2). Together they hold 106 bits, so while the first bit of the
    largest term and the last one of the smallest are no further apart (weights from 1e-12 to 100 on millions of samples
    are not), the sum is exact, and an exact sum has no order. A wider span costs exactness far below float32's own
    rounding.

    Args:
        terms: values of shape (count,), and their weight.
    """
    total, error = np.zeros(count), np.zeros(count)
    for values, weight in terms:
        term = values.astype(np.float64)
        term *= weight
        grown = total + term
        seen = grown - total
        error += (total - (grown - seen)) + (term - seen)
        total = grown
    total += error
    return total
