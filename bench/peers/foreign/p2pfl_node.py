"""One node of p2pfl. Arguments: its number, the first node's port, rounds. Node 0 begins, and tells of its models."""

import copy
import sys
import time
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict
from p2pfl.learning.aggregators.fedavg import FedAvg
from p2pfl.learning.dataset.p2pfl_dataset import P2PFLDataset
from p2pfl.learning.frameworks import Framework
from p2pfl.learning.frameworks.learner import Learner
from p2pfl.learning.frameworks.p2pfl_model import P2PFLModel
from p2pfl.node import Node
from p2pfl.utils.utils import set_standalone_settings, wait_convergence

from bench.peers.foreign.task import SHARDS, Task, Weights, now, tell


class Model(P2PFLModel):
    """Weights as arrays: its ``model`` is a list of them."""

    def get_parameters(self) -> Weights:
        """Return the arrays."""
        return list(self.model)

    def set_parameters(self, params: Weights | bytes) -> None:
        """Take others."""
        if isinstance(params, bytes):
            params, info = self.decode_parameters(params)
            self.additional_info.update(info)
        self.model = [np.asarray(array) for array in params]

    def build_copy(self, **kwargs: Any) -> "Model":
        """Return a copy, with other arguments."""
        return Model(copy.copy(self.model), **kwargs)

    def get_framework(self) -> str:
        """Return what it is nearest to."""
        return str(Framework.PYTORCH.value)


class PlainLearner(Learner):
    """Trains with the loop that all are given, not with Lightning, and leaves judging to the aggregation."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task
        self._round = 0

    def fit(self) -> Model:
        """Train for an epoch."""
        self._round += 1
        model = self.get_model()
        model.set_parameters(self._task.train(model.get_parameters(), self._round))
        model.set_contribution([self.addr], self._task.samples)
        return model  # type: ignore[no-any-return]

    def interrupt_fit(self) -> None:
        """Nothing: an epoch is short."""

    def evaluate(self) -> dict[str, float]:
        """Return nothing, so that no round waits for it."""
        return {}

    def get_framework(self) -> str:
        """Return what it is nearest to."""
        return str(Framework.PYTORCH.value)


class ToldFedAvg(FedAvg):
    """Federated averaging that tells of each finished mean."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._task = task
        self._round = 0

    def wait_and_get_aggregation(self, *arguments: Any, **named: Any) -> Any:
        """Return the round's mean."""
        model = super().wait_and_get_aggregation(*arguments, **named)
        at = now()
        self._round += 1
        tell(self._round, at, self._task.accuracy(model.get_parameters()))
        return model


def main() -> None:
    """Run the node until it is killed."""
    number, first_port, rounds = (int(argument) for argument in sys.argv[1:])
    set_standalone_settings()
    begins = number == 0
    task = Task(number, judges=begins)
    nothing = Dataset.from_dict({"image": [0], "label": [0]})
    node = Node(
        Model(task.weights()),
        P2PFLDataset(DatasetDict({"train": nothing, "test": nothing})),
        addr=f"127.0.0.1:{first_port + number}",
        learner=PlainLearner(task),
        aggregator=ToldFedAvg(task) if begins else FedAvg(),
    )
    node.start()
    for other in range(number):
        while not node.connect(f"127.0.0.1:{first_port + other}"):
            time.sleep(0.5)
    if begins:
        wait_convergence([node], SHARDS - 1, only_direct=True, wait=120)
        tell(0, now(), task.accuracy(task.weights()))
        node.set_start_learning(rounds=rounds, epochs=1, trainset_size=SHARDS)
    while True:
        time.sleep(3600.0)


if __name__ == "__main__":
    main()
