"""FederatedAveraging (McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
Algorithm 1): the mean of the updates, each weighted by its number of training samples; streaming.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from appliance.aggregation.strategy import check_layout, check_update
from appliance.aggregation.tensors import Array, Arrays, count_of
from appliance.words.models import ModelLayout

_CHUNK = 1 << 15
"""Numbers added at once: the float64 temporaries (256 KiB each) stay in the processor's cache."""


class _Sum:
    """A running weighted sum whose value does not depend on the order of its terms.

    A float32 times a sample count below 2**29 is exact in float64; what each addition then rounds away is kept in a
    float32 beside it (TwoSum: Knuth, TAOCP volume 2, section 4.2.2). Together they hold 77 bits, so for sums whose
    terms lie within 2**77 of each other (weights from 1e-12 to 100 on millions of samples do) the sum is exact, and
    an exact sum has no order. A wider span costs exactness far below float32's own rounding.

    Memory: 12 bytes a number.
    """

    def __init__(self, count: int) -> None:
        self._total = np.zeros(count, np.float64)
        self._error = np.zeros(count, np.float32)

    def add(self, values: NDArray[np.float32], weight: int) -> None:
        """Add ``weight`` times ``values``, float32 of shape (count,)."""
        for start in range(0, values.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            total = self._total[part]
            term = values[part].astype(np.float64)
            term *= weight
            grown = total + term
            seen = grown - total
            self._error[part] += (total - (grown - seen)) + (term - seen)
            total[:] = grown

    def divided(self, divisor: int) -> Array:
        """Return the sum over ``divisor`` as float32 of shape (count,)."""
        mean = np.empty(self._total.size, np.float32)
        for start in range(0, mean.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            mean[part] = (self._total[part] + self._error[part]) / divisor
        return mean


class FedAvg:
    """The running sum of one round. Memory: one sum (3 times the model's bytes), however many updates come.

    Attributes:
        updates: how many were added.
        samples: how many training samples they stand for.
    """

    def __init__(self, layout: ModelLayout) -> None:
        check_layout(layout)
        self._layout = layout
        self._sums = {tensor.name: _Sum(count_of(tensor)) for tensor in layout}
        self.updates = 0
        self.samples = 0

    def add(self, arrays: Mapping[str, Array], samples: int) -> None:
        """As ``Strategy.add``; the arrays are not kept."""
        check_update(arrays, samples, self._layout)
        for name, running in self._sums.items():
            running.add(arrays[name].reshape(-1), samples)
        self.updates += 1
        self.samples += samples

    def result(self) -> Arrays:
        """Return the weighted mean, float32 tensors of the layout. Raises ValueError if no update was added."""
        if not self.updates:
            raise ValueError("no update was added")
        return {
            tensor.name: self._sums[tensor.name].divided(self.samples).reshape(tensor.shape) for tensor in self._layout
        }
