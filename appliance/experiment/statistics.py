"""What is said of several measurements. Pure."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

BAR = 50


class Spread(Struct, frozen=True):
    """Mean and spread of repeated measurements.

    Attributes:
        deviation: the sample's standard deviation (divided by n - 1); 0 of a single one.
    """

    count: int
    mean: float
    deviation: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(len(values), statistics.fmean(values), deviation, min(values), max(values))


class Durations(Struct, frozen=True):
    """What tells the distribution of durations, in seconds; quantiles by nearest rank, so each is one that occurred."""

    least: float
    median: float
    p90: float
    p99: float
    worst: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Durations":
        """Return those of at least one duration, to a hundredth of a second."""
        ordered = sorted(seconds)

        def rank(share: float) -> float:
            return round(ordered[math.ceil(len(ordered) * share) - 1], 2)

        return cls(
            round(ordered[0], 2), round(statistics.median(ordered), 2), rank(0.9), rank(0.99), round(ordered[-1], 2)
        )


def bars(seconds: Sequence[float], step: float) -> list[str]:
    """Return a histogram in text: a line for each step from the first to the last that has any."""
    counts = Counter(int(second / step) for second in seconds)
    scale = min(1.0, BAR / max(counts.values()))

    def line(place: int) -> str:
        bar = "#" * round(counts[place] * scale)
        return f"{place * step:6.2f} to {(place + 1) * step:5.2f} {counts[place]:4} {bar}".rstrip()

    return [line(place) for place in range(min(counts), max(counts) + 1)]
