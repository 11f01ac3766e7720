"""A task's network: what its models must hold, and from a model's bytes to a network."""

import torch
from torch import nn

from appliance.aggregation.state import parse_model
from appliance.training.task import Task
from appliance.words.errors import OperatorError
from appliance.words.models import ModelLayout, TensorLayout


def layout_of(task: Task) -> ModelLayout:
    """Return the tensors of the task's network, sorted by name.

    Raises:
        OperatorError: one of them is not float32, and can't be averaged.
    """
    tensors = sorted(_empty_network(task).state_dict().items())
    for name, tensor in tensors:
        if tensor.dtype != torch.float32:
            raise OperatorError(
                f"the task {task.name}: its network's {name} is {tensor.dtype}, and only float32 can be averaged; "
                "GroupNorm or LayerNorm in place of BatchNorm, for one, keep nothing else"
            )
    return tuple(TensorLayout(name, "F32", tuple(tensor.shape)) for name, tensor in tensors)


def network_of(task: Task, model: bytes, layout: ModelLayout) -> nn.Module:
    """Return the task's network with these weights (copied: a network changes its weights in place), on the CPU.

    A strategy's state in the bytes has no effect. Raises RemoteError if they are not of the layout.
    """
    arrays = parse_model(model, layout)
    weights = {tensor.name: torch.from_numpy(arrays[tensor.name].copy()) for tensor in layout}
    network = _empty_network(task)
    network.load_state_dict(weights, assign=True)
    if any(buffer.is_meta for buffer in network.buffers()):
        # What a network keeps beside its state has no value yet in an empty one.
        network = task.network()
        network.load_state_dict(weights, assign=True)
    return network


def _empty_network(task: Task) -> nn.Module:
    """Return a network whose tensors have shapes and no memory yet."""
    with torch.device("meta"):
        return task.network()
