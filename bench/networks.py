"""Tasks of other sizes than the paper's network, for benchmarks: one whose bytes hardly matter, and one of any size."""

import math
from collections.abc import Mapping
from pathlib import Path

from torch import nn

from appliance.training import datasets
from appliance.training.examples import Shard
from appliance.training.images import ImageTask
from appliance.training.task import Task
from appliance.words import settings
from appliance.words.settings import Data

_PIXELS, _CLASSES = 28 * 28, 10


class TinyTask(ImageTask):
    """Softmax regression: 784 inputs, 10 outputs, 7,850 parameters, 31 KB."""

    name = "tiny"

    def network(self) -> nn.Module:
        """As ``Task.network``."""
        return nn.Sequential(nn.Flatten(), nn.Linear(_PIXELS, _CLASSES))


class WideTask(ImageTask):
    """784 inputs, two hidden layers of one width, 10 outputs.

    Args:
        width: of both; the parameters are width^2 + 796 width + 10.
    """

    name = "wide"

    def __init__(self, shard: Shard, width: int) -> None:
        super().__init__(shard)
        self._width = width

    def network(self) -> nn.Module:
        """As ``Task.network``."""
        width = self._width
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(_PIXELS, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, _CLASSES),
        )


def tiny(data: Data, _options: Mapping[str, object], cache: Path) -> Task:
    """Make the task of ``TinyTask``."""
    return TinyTask(datasets.load(data, cache))


def wide(data: Data, options: Mapping[str, object], cache: Path) -> Task:
    """Make the task of ``WideTask``, with about so many parameters as the option ``millions`` says."""
    millions = options["millions"]
    assert isinstance(millions, int)
    return WideTask(datasets.load(data, cache), round(math.sqrt(398**2 + millions * 1e6) - 398))


def setting(name: str, **options: object) -> settings.Task:
    """Return the setting that makes a node run one of these tasks."""
    return settings.Task(f"bench.networks:{name}", folder=Path(__file__).resolve().parents[1], options=options)
