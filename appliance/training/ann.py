"""The paper's network: 784 inputs -> 128 -> 2096 -> 10, ReLU between; 391,834 parameters."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Ann(nn.Module):
    """A multilayer perceptron for images of 28x28 pixels and ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(784, 128)
        self.hidden2 = nn.Linear(128, 2096)
        self.output = nn.Linear(2096, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float32 [batch, 10], of float32 pixels from 0 to 1 of shape [batch, 28, 28]."""
        hidden = functional.relu(self.hidden1(torch.flatten(images, 1)), inplace=True)
        hidden = functional.relu(self.hidden2(hidden), inplace=True)
        logits: Tensor = self.output(hidden)
        return logits
