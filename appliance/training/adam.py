"""Adam (Kingma and Ba 2015) over a list of parameters, on PyTorch's fused kernel.

``torch.optim.Adam(fused=True)`` calls this same kernel; the tests hold the two together bit for bit. But the first
optimizer made from ``torch.optim`` imports the compiler (torch._dynamo, torch._inductor, sympy: 800 modules, 75 MB
resident, over a second), which a node that lives in 400 MB has no use for.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Adam:
    """The paper's settings: beta 0.9 and 0.999, epsilon 1e-8, no weight decay.

    Memory: two moments, so twice the parameters' bytes.
    """

    def __init__(self, parameters: Sequence[Tensor], learning_rate: float) -> None:
        # Detached tensors share the parameters' memory and may be changed in place without leaving a trace in autograd.
        self._parameters = [parameter.detach() for parameter in parameters]
        self._first = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._second = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._step = torch.zeros((), device=self._parameters[0].device)
        self._steps = [self._step] * len(self._parameters)
        self._learning_rate = learning_rate

    def step(self, gradients: Sequence[Tensor]) -> None:
        """Change the parameters in place, by one gradient each, of the parameter's shape."""
        self._step += 1
        torch._fused_adam_(
            self._parameters,
            list(gradients),
            self._first,
            self._second,
            [],
            self._steps,
            lr=self._learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )
