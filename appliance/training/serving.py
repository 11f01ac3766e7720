"""A committed model as a program that runs without this package: ``torch.export``, for serving."""

import io
from collections.abc import Mapping

import torch
from torch.export import Dim

from appliance.training.network import layout_of, network_of
from appliance.training.task import Task
from appliance.words.errors import OperatorError

_CHECKED_WITH = (1, 2, 7)
"""Samples in a batch."""


def program_of(task: Task, model: bytes, notes: Mapping[str, str]) -> bytes:
    """Return a .pt2 file: what ``Task.inputs`` returns for a batch of any size in, the network's outputs out.

    The program is loaded again from these bytes, and must say what the network says of held-out samples. Loading such a
    file unpickles parts of it: here that is done with bytes that this process has made itself, and with no others
    (invariant 8).

    Args:
        task: whose network it is.
        model: safetensors bytes.
        notes: texts by file name, to lie in the archive beside the program.

    Raises:
        RemoteError: the model is not of the network's layout.
        OperatorError: the program says something else than the network, or the network can't be exported.
    """
    network = network_of(task, model, layout_of(task)).train(mode=False)
    features = task.held_out.features
    # Repeated: one example of one sample would be taken for a batch that is always one.
    example = task.inputs(features[[0, 0, 0]])
    try:
        program = torch.export.export(network, (example,), dynamic_shapes=({0: Dim("batch")},))
    except Exception as error:
        # The network may be anybody's, and what PyTorch raises for what it can't export has many classes.
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise OperatorError(f"torch.export can't export the network of the task {task.name}: {first_line}") from error
    file = io.BytesIO()
    torch.export.save(program, file, extra_files=dict(notes))
    content = file.getvalue()
    again = torch.export.load(io.BytesIO(content)).module()
    with torch.inference_mode():
        for inputs in (task.inputs(features[torch.arange(size) % len(features)]) for size in _CHECKED_WITH):
            if not torch.allclose(again(inputs), network(inputs), rtol=1e-5, atol=1e-6):
                raise OperatorError("the exported program does not say what the network says; nothing was written")
    return content
