"""Flower 1.8's server: federated averaging of five clients, for as many rounds as the argument says."""

import sys

import flwr
from flwr.server.strategy import FedAvg

from bench.peers.foreign.task import SHARDS, Task, Weights, now, tell


def main() -> None:
    """Serve."""
    task = Task(None, judges=True)

    def judge(round_: int, weights: Weights, _: object) -> tuple[float, dict[str, float]]:
        at = now()
        accuracy = task.accuracy(weights)
        tell(round_, at, accuracy)
        return 0.0, {"accuracy": accuracy}

    strategy = FedAvg(
        fraction_evaluate=0.0,
        min_fit_clients=SHARDS,
        min_available_clients=SHARDS,
        evaluate_fn=judge,
        on_fit_config_fn=lambda round_: {"round": round_},
        initial_parameters=flwr.common.ndarrays_to_parameters(task.weights()),
    )
    config = flwr.server.ServerConfig(num_rounds=int(sys.argv[1]))
    flwr.server.start_server(server_address="127.0.0.1:8080", config=config, strategy=strategy)


if __name__ == "__main__":
    main()
