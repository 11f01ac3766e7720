"""Flower 1.8's client, for the shard that is the argument."""

import sys

import flwr

from bench.peers.foreign.task import Task, Weights


class Client(flwr.client.NumPyClient):
    """Trains one shard."""

    def __init__(self, shard: int) -> None:
        self._task = Task(shard, judges=False)

    def fit(self, parameters: Weights, config: dict[str, int]) -> tuple[Weights, int, dict[str, float]]:
        """Train from a base model."""
        return self._task.train(parameters, config["round"]), self._task.samples, {}


if __name__ == "__main__":
    flwr.client.start_client(
        server_address="127.0.0.1:8080", client=Client(int(sys.argv[1])).to_client(), insecure=True
    )
