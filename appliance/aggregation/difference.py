"""How far two models are apart, tensor by tensor and as a whole."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Distance:
    """From the weights a to the weights b.

    Attributes:
        norm: the L2 norm of b - a.
        relative: that, as a share of the norm of a; infinite if a is all 0 and b is not.
        largest: the greatest |b - a| of one number.
    """

    norm: float
    relative: float
    largest: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two models: of each tensor by name, of all numbers together, and the cosine of the two as long vectors.

    The cosine is NaN if one of them is all 0.
    """

    tensors: dict[str, Distance]
    whole: Distance
    cosine: float


def difference(a: Weights, b: Weights) -> Difference:
    """Compare two models; sums are in float64, one tensor at a time.

    Raises:
        ValueError: they have not the same tensors.
    """
    if {name: array.shape for name, array in a.items()} != {name: array.shape for name, array in b.items()}:
        raise ValueError("the two models have not the same tensors")
    tensors: dict[str, Distance] = {}
    changed, former, later, product, largest = 0.0, 0.0, 0.0, 0.0, 0.0
    for name in sorted(a):
        x, y = (array.astype(np.float64).ravel() for array in (a[name], b[name]))
        step = y - x
        squares = float(step @ step)
        tensors[name] = _distance(squares, float(x @ x), float(np.abs(step).max(initial=0.0)))
        changed, former, later = changed + squares, former + float(x @ x), later + float(y @ y)
        product, largest = product + float(x @ y), max(largest, tensors[name].largest)
    scale = math.sqrt(former) * math.sqrt(later)
    return Difference(tensors, _distance(changed, former, largest), product / scale if scale else math.nan)


def _distance(changed: float, former: float, largest: float) -> Distance:
    norm, size = math.sqrt(changed), math.sqrt(former)
    relative = norm / size if size else (math.inf if norm else 0.0)
    return Distance(norm, relative, largest)
