"""A task with a network of 31 KB, for benchmarks in which the model's bytes are not to matter: softmax regression."""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from appliance.training import datasets
from appliance.training.images import ImageTask
from appliance.training.task import Task
from appliance.words.settings import Data


class TinyTask(ImageTask):
    """784 inputs, 10 outputs, 7,850 parameters."""

    name = "tiny"

    def network(self) -> nn.Module:
        """As ``Task.network``."""
        return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))


def make(data: Data, _options: Mapping[str, object], cache: Path) -> Task:
    """Make the task."""
    return TinyTask(datasets.load(data, cache))
