"""The ServerApp: federated averaging over all five nodes, judged after each round."""

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from bench.peers.foreign.task import SHARDS, Task, now, tell

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds."""
    task = Task(None, judges=True)

    def judge(round_: int, arrays: ArrayRecord) -> MetricRecord:
        at = now()
        accuracy = task.accuracy(arrays.to_numpy_ndarrays())
        tell(round_, at, accuracy)
        return MetricRecord({"accuracy": accuracy})

    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=SHARDS, min_available_nodes=SHARDS)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(task.weights()),
        num_rounds=int(context.run_config["rounds"]),
        evaluate_fn=judge,
    )
