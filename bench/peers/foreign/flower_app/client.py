"""The ClientApp: one epoch on the node's shard."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from bench.peers.foreign.task import Task

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train from the model in the message."""
    task = Task(int(context.node_config["partition-id"]), judges=False)
    round_ = int(message.content["config"]["server-round"])
    weights = task.train(message.content["arrays"].to_numpy_ndarrays(), round_)
    metrics = MetricRecord({"num-examples": task.samples})
    return Message(content=RecordDict({"arrays": ArrayRecord(weights), "metrics": metrics}), reply_to=message)
