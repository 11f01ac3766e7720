"""A small convolutional network for images: 784 pixels -> 8 and 16 channels of 3x3 -> 64 -> 10; 52,138 parameters."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Cnn(nn.Module):
    """Two convolutions, each halved by max pooling, and two linear layers; for images of 28x28 pixels, ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(1, 8, 3, padding=1)
        self.convolution2 = nn.Conv2d(8, 16, 3, padding=1)
        self.hidden = nn.Linear(16 * 7 * 7, 64)
        self.output = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, float32 [batch, 10], of float32 pixels from 0 to 1 of shape [batch, 28, 28]."""
        found = functional.max_pool2d(functional.relu(self.convolution1(images.unsqueeze(1))), 2)
        found = functional.max_pool2d(functional.relu(self.convolution2(found)), 2)
        logits: Tensor = self.output(functional.relu(self.hidden(torch.flatten(found, 1))))
        return logits
