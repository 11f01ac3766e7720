"""FedProx (Li et al. 2020, "Federated Optimization in Heterogeneous Networks", Algorithm 2), at the participant.

Each step is taken on the loss plus ``mu / 2 * ||w - base||^2``, whose gradient is ``mu * (w - base)``: where shards
differ, it keeps a participant from going far its own way in one round.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Proximal:
    """The pull back to the weights that a training began with. Memory: a copy of them, unless ``mu`` is 0."""

    def __init__(self, parameters: Sequence[Tensor], mu: float) -> None:
        self._mu = mu
        self._parameters = [parameter.detach() for parameter in parameters]
        self._base = [parameter.clone() for parameter in self._parameters] if mu else []

    def add_to(self, gradients: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the gradients, each of its parameter's shape, with the pull added in place."""
        if self._mu:
            moved = torch._foreach_sub(self._parameters, self._base)
            torch._foreach_add_(list(gradients), list(moved), alpha=self._mu)
        return gradients
