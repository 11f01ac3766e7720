"""A committed model as a program that runs without this package: ``torch.export``, for serving."""

import io
from collections.abc import Mapping

import torch

from appliance.training.trainer import network_of
from appliance.words.errors import OperatorError

_CHECKED_WITH = (1, 2, 7)
"""Images in a batch."""


def program_of(model: bytes, notes: Mapping[str, str]) -> bytes:
    """Return a .pt2 file: pixels, float32 [batch, 28, 28] from 0 to 1, in; logits, float32 [batch, 10], out.

    The program is loaded again from these bytes, and must say what the network says. Loading such a file unpickles
    parts of it: here that is done with bytes that this process has made itself, and with no others (invariant 8).

    Args:
        model: safetensors bytes.
        notes: texts by file name, to lie in the archive beside the program.

    Raises:
        RemoteError: the model is not of the network's layout.
        OperatorError: the program says something else than the network.
    """
    network = network_of(model).eval()
    random = torch.Generator().manual_seed(0)
    example = torch.rand(3, 28, 28, generator=random)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    file = io.BytesIO()
    torch.export.save(program, file, extra_files=dict(notes))
    content = file.getvalue()
    again = torch.export.load(io.BytesIO(content)).module()
    with torch.inference_mode():
        for images in (torch.rand(size, 28, 28, generator=random) for size in _CHECKED_WITH):
            if not torch.allclose(again(images), network(images), rtol=1e-5, atol=1e-6):
                raise OperatorError("the exported program does not say what the network says; nothing was written")
    return content
