"""From a model's bytes to a network, and how a network begins."""

import torch
from torch import nn

from appliance.aggregation.state import parse_model
from appliance.training.task import Task
from appliance.words.models import ModelLayout


def network_of(task: Task, model: bytes, layout: ModelLayout) -> nn.Module:
    """Return the task's network with these weights (copied: a network changes its weights in place), on the CPU.

    A strategy's state in the bytes has no effect. Raises RemoteError if they are not of the layout.
    """
    arrays = parse_model(model, layout)
    weights = {tensor.name: torch.from_numpy(arrays[tensor.name].copy()) for tensor in layout}
    network = empty_network(task)
    network.load_state_dict(weights, assign=True)
    if any(buffer.is_meta for buffer in network.buffers()):
        # What a network keeps beside its state has no value yet in an empty one.
        network = task.network()
        network.load_state_dict(weights, assign=True)
    return network


def empty_network(task: Task) -> nn.Module:
    """Return a network whose tensors have shapes and no memory yet."""
    with torch.device("meta"):
        return task.network()
