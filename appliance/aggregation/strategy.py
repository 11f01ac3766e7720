"""What every strategy is, and what it demands of an update."""

from typing import Protocol

from appliance.aggregation.numbers import Weights
from appliance.aggregation.state import RESERVED
from appliance.aggregation.tensors import Arrays, count_of
from appliance.words.models import ModelLayout


class Strategy(Protocol):
    """Turns the updates of one round into a model; made afresh for each round. The order of updates has no effect."""

    def add(self, update: Weights, samples: int) -> None:
        """Add an update: finite numbers for each tensor of the layout, on ``samples`` (at least 1) training samples.

        They are kept, for ``result`` to read, and must not change until then. Raises ValueError, with nothing added,
        if they are not of the layout; updates from the network went through ``encoding.check``.
        """

    def result(self) -> Arrays:
        """Return the model: finite float32 tensors of the layout, and with them the strategy's state, if it has one.

        Raises ValueError if there were fewer updates than the strategy needs to keep its promise.
        """


def check_layout(layout: ModelLayout) -> None:
    """Raise ValueError unless all tensors are float32, and have names that are not taken for a strategy's state."""
    if unknown := [tensor.name for tensor in layout if tensor.dtype != "F32"]:
        raise ValueError(f"only F32 can be averaged, and {unknown[0]} is not")
    if taken := [tensor.name for tensor in layout if tensor.name.startswith(RESERVED)]:
        raise ValueError(f"names that begin with {RESERVED} are for a strategy's state, and {taken[0]} is a network's")


def check_update(update: Weights, samples: int, layout: ModelLayout) -> None:
    """Raise ValueError unless this has the numbers of a model of the layout, and a weight."""
    if samples < 1:
        raise ValueError(f"an update on {samples} samples has no weight")
    for tensor in layout:
        if tensor.name not in update or len(update[tensor.name]) != count_of(tensor):
            raise ValueError(f"the update's tensor {tensor.name} is missing or has not {count_of(tensor)} numbers")
