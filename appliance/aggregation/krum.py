"""Multi-Krum (Blanchard et al. 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent").

An update's score is the sum of its squared distances to the n - f - 2 updates nearest to it. Krum takes the update of
the least score. Multi-Krum takes the mean of the m best; m = n - f - 2 are as safe as one (Damaskinos et al. 2019,
"AggregaThor"), and one alone would throw away what all other members have learned. It needs n >= 2f + 3.

Sample counts have no effect. The work grows with the square of the number of updates.
"""

import math

from appliance.aggregation.fedavg import FedAvg
from appliance.aggregation.held import HeldUpdates, squared_distances
from appliance.aggregation.numbers import Weights
from appliance.aggregation.tensors import Arrays
from appliance.words.models import ModelLayout


class Krum:
    """The mean of the n - f - 2 updates that lie closest to others."""

    def __init__(self, layout: ModelLayout, attackers: int) -> None:
        """``attackers``: f; at least 2f + 3 updates are needed."""
        self._updates = HeldUpdates(layout, 2 * attackers + 3)
        self._attackers = attackers

    def add(self, update: Weights, samples: int) -> None:
        """As ``Strategy.add``."""
        self._updates.add(update, samples)

    def result(self) -> Arrays:
        """As ``Strategy.result``."""
        held, layout = self._updates.in_order(), self._updates.layout
        chosen = len(held) - self._attackers - 2
        squares: list[list[float]] = [[] for _ in held]
        distances = squared_distances([update.weights for update in held], layout)
        for (one, other), square in distances.items():
            squares[one].append(square)
            squares[other].append(square)
        scores = [math.fsum(sorted(each)[:chosen]) for each in squares]
        mean = FedAvg(layout)
        # Equal scores are taken in the order of the updates' marks: sorting is stable.
        for best in sorted(range(len(held)), key=scores.__getitem__)[:chosen]:
            mean.add(held[best].weights, 1)
        return mean.result()
