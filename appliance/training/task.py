"""What a cluster learns: the network, the data, the loss, what counts as right. A plug-in is a class of this kind."""

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass

import msgspec
from torch import Tensor, nn
from torch.nn import functional

from appliance.words.models import ModelLayout


@dataclass(frozen=True, slots=True)
class Samples:
    """What is learned from or judged by, in memory.

    Attributes:
        features: [samples, ...] of any dtype; ``Task.inputs`` makes of a batch of them what the network takes.
        targets: [samples, ...], as ``Task.loss`` takes a batch of them.
    """

    features: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if not 0 < len(self.features) == len(self.targets):
            raise ValueError(f"{len(self.features)} features and {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.targets)


class Task(ABC):
    """One node's part of a task. Nothing in it changes after it is made: two threads use it at the same time.

    What is here by default is a classification with classes as int64 targets [samples] and logits as outputs.

    Attributes:
        name, version: of what is learned; whatever changes what the numbers in a model mean needs another version.
            Together with the shapes of the network they are the task's fingerprint, which a cluster agrees on.
        training: this node's own samples.
        held_out: what models are judged by, in no special order: any first part of it is a fair sample.
        shard: tells the order of this node's samples from the other nodes'.
    """

    name: str
    version: str = "1"

    def __init__(self, training: Samples, held_out: Samples, *, shard: int = 0) -> None:
        self.training = training
        self.held_out = held_out
        self.shard = shard

    @abstractmethod
    def network(self) -> nn.Module:
        """Return a fresh network, initialised from PyTorch's default generator; all of its state is float32.

        Layers that keep statistics of batches (BatchNorm) can't be averaged; GroupNorm and LayerNorm can.
        """

    def inputs(self, features: Tensor) -> Tensor:
        """Return what the network is given for a batch of features."""
        return features

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar."""
        return functional.cross_entropy(outputs, targets)

    def right(self, outputs: Tensor, targets: Tensor) -> int:
        """Return how many of a batch's answers are right: what accuracy counts."""
        return int((outputs.argmax(1) == targets).sum())


def fingerprint(task: Task, layout: ModelLayout) -> str:
    """Return what tells this task from others, such as "ann 1 (3f1c0b9a7d42)": its name, version, and shapes' hash."""
    return f"{task.name} {task.version} ({hashlib.sha256(msgspec.json.encode(layout)).hexdigest()[:12]})"
