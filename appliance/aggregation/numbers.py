"""A model's numbers, read part by part: from arrays in memory, or from wherever else they are kept."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from appliance.aggregation.tensors import Array

AT_ONCE = 1 << 15
"""Numbers at once: float64 temporaries of them (256 KiB each) stay in the processor's cache, and are bounded."""


class Values(Protocol):
    """Numbers of any type in a row, which don't change; an array of shape (count,) is that."""

    def __len__(self) -> int:
        """Return how many they are."""

    def __getitem__(self, part: slice, /) -> NDArray[Any]:
        """Return a part, of shape (stop - start,); ``part`` is one of ``parts``, or lies in one."""


class Numbers(Values, Protocol):
    """The same, float32."""

    def __getitem__(self, part: slice, /) -> NDArray[np.float32]:
        """As ``Values``."""


class Combined:
    """What becomes of a base and an update of it; calculated when it is read.

    Args:
        combine: from a part of the base and the same part of the update.
    """

    def __init__(
        self, base: Numbers, update: Values, combine: Callable[[NDArray[np.float32], NDArray[Any]], NDArray[np.float32]]
    ) -> None:
        self._base = base
        self._update = update
        self._combine = combine

    def __len__(self) -> int:
        return len(self._update)

    def __getitem__(self, part: slice, /) -> NDArray[np.float32]:
        return self._combine(self._base[part], self._update[part])


Weights = Mapping[str, Numbers]
"""By the names of the tensors."""


def in_memory(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return arrays of any shape as numbers in a row, without a copy if they are contiguous."""
    return {name: array.reshape(-1) for name, array in arrays.items()}


def parts(count: int, at_once: int = AT_ONCE) -> Iterator[slice]:
    """Yield all of ``count`` numbers, in their order, ``at_once`` at once."""
    return (slice(start, min(start + at_once, count)) for start in range(0, count, at_once))
