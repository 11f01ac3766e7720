"""The two tasks for images of 28x28 pixels and ten classes: the paper's network, and a small convolutional one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from appliance.training import datasets
from appliance.training.ann import Ann
from appliance.training.cnn import Cnn
from appliance.training.examples import Examples, Shard
from appliance.training.task import Samples, Task
from appliance.words.errors import OperatorError
from appliance.words.settings import Data

_PIXEL = 1 / 255


class ImageTask(Task):
    """Classifies uint8 images [samples, 28, 28]: a quarter of float32's memory.

    A batch becomes float32 when it is used, which costs nothing that can be measured.
    """

    def __init__(self, shard: Shard) -> None:
        super().__init__(_samples(shard.training), _samples(shard.held_out), shard=shard.number)

    def inputs(self, features: Tensor) -> Tensor:
        """Return float32 pixels from 0 to 1, [batch, 28, 28]."""
        return features * _PIXEL


class AnnTask(ImageTask):
    """The paper's."""

    name = "ann"

    def network(self) -> nn.Module:
        """As ``Task.network``."""
        return Ann()


class CnnTask(ImageTask):
    """A convolutional network with an eighth of the paper's parameters."""

    name = "cnn"

    def network(self) -> nn.Module:
        """As ``Task.network``."""
        return Cnn()


def ann(data: Data, options: Mapping[str, object], cache: Path) -> Task:
    """Make the task ``ann``. Raises OperatorError."""
    return AnnTask(_shard("ann", data, options, cache))


def cnn(data: Data, options: Mapping[str, object], cache: Path) -> Task:
    """Make the task ``cnn``. Raises OperatorError."""
    return CnnTask(_shard("cnn", data, options, cache))


def _shard(name: str, data: Data, options: Mapping[str, object], cache: Path) -> Shard:
    if options:
        raise OperatorError(f"task.options: {next(iter(options))}: the task {name} has no options")
    return datasets.load(data, cache)


def _samples(examples: Examples) -> Samples:
    """Return the images in the same memory, and the labels as cross entropy wants them, int64."""
    return Samples(torch.from_numpy(examples.images), torch.from_numpy(examples.labels.astype(np.int64)))
