"""Server optimizers: the mean of the updates' steps is taken for a gradient, and an optimizer takes the step.

With x the base model and d the mean of the updates' differences from it, weighted by their samples as in FedAvg:

- FedAvgM (Hsu et al. 2019, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
  Classification"): m = beta1 m + d; x = x + eta m. Their eta is 1.
- FedAdam and FedYogi (Reddi et al. 2021, "Adaptive Federated Optimization", Algorithm 2): m = beta1 m + (1 - beta1) d;
  x = x + eta m / (sqrt(v) + tau), number by number, where v is

  - for FedAdam: beta2 v + (1 - beta2) d^2
  - for FedYogi: v - (1 - beta2) d^2 sign(v - d^2)

m begins at 0 and v at tau^2, the least that the paper allows; it corrects for this beginning no more than we do. Both
are state of the global model (``state.py``). What is too large for float32 becomes the largest one.

They trust every update, as FedAvg does, and remember: what a hostile update did stays in m and v for some rounds.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from appliance.aggregation.fedavg import FedAvg
from appliance.aggregation.numbers import Weights, parts
from appliance.aggregation.state import Moment, has_state, state_name
from appliance.aggregation.tensors import Array, Arrays
from appliance.aggregation.validation import is_finite
from appliance.words.models import ModelLayout, TensorLayout
from appliance.words.settings import Aggregation

_Numbers = NDArray[np.float64]

_LARGEST = float(np.finfo(np.float32).max)


class _ServerOptimizer(ABC):
    """FedAvg's mean, then one step. Memory: the base and the new model, both with their state."""

    moments: ClassVar[tuple[Moment, ...]]

    def __init__(self, layout: ModelLayout, settings: Aggregation, base: Mapping[str, Array]) -> None:
        """``base``: the model that the round's updates were trained from, finite, perhaps with state.

        State of another kind of strategy, or such as no step can have made, counts as none.
        """
        self._mean = FedAvg(layout)
        self._layout = layout
        self._settings = settings
        self._base = base
        self._goes_on = has_state(base, self.moments, layout) and all(
            is_finite(values) and (moment == "first" or values.min(initial=0.0) >= 0.0)
            for moment in self.moments
            for values in (base[state_name(moment, tensor.name)] for tensor in layout)
        )

    def add(self, update: Weights, samples: int) -> None:
        """As ``Strategy.add``."""
        self._mean.add(update, samples)

    def result(self) -> Arrays:
        """As ``Strategy.result``. Raises ValueError if no update was added."""
        result: Arrays = {}
        for tensor in self._layout:
            before = [self._base[tensor.name], *(self._moment(moment, tensor) for moment in self.moments)]
            after = self._stepped(self._mean.mean_of(tensor), before)
            names = [tensor.name, *(state_name(moment, tensor.name) for moment in self.moments)]
            result.update(zip(names, after, strict=True))
        return result

    def _moment(self, moment: Moment, tensor: TensorLayout) -> Array:
        if self._goes_on:
            return self._base[state_name(moment, tensor.name)]
        beginning = 0.0 if moment == "first" else self._settings.tau**2
        return np.broadcast_to(np.float32(beginning), tensor.shape)

    def _stepped(self, mean: Array, before: list[Array]) -> list[Array]:
        """Return a tensor and its moments after the step, float32, from what they were ``before``."""
        after = [np.empty(mean.size, np.float32) for _ in before]
        flat_mean, flat = mean.reshape(-1), [values.reshape(-1) for values in before]
        for part in parts(mean.size):
            model, *moments = (values[part].astype(np.float64) for values in flat)
            step, *moments = self._step(flat_mean[part] - model, *moments)
            for target, values in zip(after, (model + step, *moments), strict=True):
                target[part] = np.clip(values, -_LARGEST, _LARGEST)
        return [values.reshape(mean.shape) for values in after]

    @abstractmethod
    def _step(self, change: _Numbers, *moments: _Numbers) -> tuple[_Numbers, ...]:
        """Return what is added to the model, and the new moments, from the mean of the updates' changes."""


class FedAvgM(_ServerOptimizer):
    """A heavy ball: each round's change goes on, less and less, in those that follow."""

    moments = ("first",)

    def _step(self, change: _Numbers, *moments: _Numbers) -> tuple[_Numbers, ...]:
        first = self._settings.momentum * moments[0] + change
        return self._settings.server_step * first, first


class FedAdam(_ServerOptimizer):
    """A pace of its own for each number: what has changed much lately is changed less."""

    moments = ("first", "second")

    def _step(self, change: _Numbers, *moments: _Numbers) -> tuple[_Numbers, ...]:
        settings, (first, second) = self._settings, moments
        first = settings.momentum * first + (1 - settings.momentum) * change
        second = self._second(second, np.square(change))
        return settings.server_step * first / (np.sqrt(second) + settings.tau), first, second

    def _second(self, second: _Numbers, square: _Numbers) -> _Numbers:
        return self._settings.second_momentum * second + (1 - self._settings.second_momentum) * square


class FedYogi(FedAdam):
    """As FedAdam; but the second moment sinks no faster than the latest changes' squares allow."""

    def _second(self, second: _Numbers, square: _Numbers) -> _Numbers:
        return second - (1 - self._settings.second_momentum) * square * np.sign(second - square)
