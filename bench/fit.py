"""How a figure grows with the number of nodes: the exponent of the power law that fits best. Pure."""

import math
from collections.abc import Sequence


def exponent(sizes: Sequence[float], figures: Sequence[float]) -> float:
    """Return b of figure = a * size^b, by least squares of the logarithms.

    Args:
        sizes: positive, at least two different ones.
        figures: one for each size, positive.

    Raises:
        ValueError: there are too few sizes to tell.
    """
    if len(set(sizes)) < 2:
        raise ValueError("growth can't be told from one size")
    xs, ys = [math.log(size) for size in sizes], [math.log(figure) for figure in figures]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return covariance / sum((x - x_mean) ** 2 for x in xs)
