"""Where a training stands, as bytes and back: the weights, Adam's moments and step, and how far it has come.

The order of the samples needs no state: it follows from seed, round, epoch and shard. So a training that goes on from
here ends with the same bytes, bit for bit, as one that was never interrupted.
"""

import hashlib
from collections.abc import Callable

import msgspec
import numpy as np
import torch
from msgspec import Struct
from torch import Tensor, nn

from appliance.aggregation.tensors import parse, serialise
from appliance.training.adam import Adam
from appliance.training.task import Task
from appliance.words.ids import Digest, digest_of
from appliance.words.models import ModelLayout, TensorLayout
from appliance.words.settings import Training


class TrainingState(Struct, frozen=True):
    """A training between two mini-batches.

    Attributes:
        epoch: the one under way, from 0.
        batches: mini-batches of it that are done.
        tensors: safetensors bytes, float32: ``model.NAME`` for each of the network's, ``adam.step``, and
            ``adam.first.N`` and ``adam.second.N`` for each of its parameters. Three times the model's size.
    """

    epoch: int
    batches: int
    tensors: bytes | memoryview


Checkpoint = Callable[[Callable[[], TrainingState]], None]
"""Is called after each mini-batch, in training's thread, with what captures the state as long as the call lasts."""


def origin(settings: Training, samples: Digest) -> Digest:
    """Return what names all that a training's result depends on, beside its round and its base model.

    ``samples``: what ``samples_digest`` returned.
    """
    how = msgspec.structs.replace(settings, checkpoint_s=0.0, hours=(), judged_samples=1, initial=None)
    return digest_of(msgspec.json.encode((how, samples)))


def samples_digest(task: Task, fingerprint: str) -> Digest:
    """Return what names a task, and all that this node learns from."""
    content = hashlib.sha256(msgspec.json.encode((fingerprint, task.shard)))
    for tensor in (task.training.features, task.training.targets):
        content.update(np.ascontiguousarray(tensor.numpy()).data)
    return f"sha256:{content.hexdigest()}"


def capture(network: nn.Module, adam: Adam, epoch: int, batches: int) -> TrainingState:
    """Return the state, with a copy of all tensors."""
    tensors = _tensors(network, adam)
    arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    return TrainingState(epoch, batches, serialise(arrays, _layout(tensors)))


def restore(state: TrainingState, network: nn.Module, adam: Adam) -> None:
    """Put a captured state into a network and its Adam, in place. Raises RemoteError if it is of another network."""
    tensors = _tensors(network, adam)
    for name, array in parse(state.tensors, _layout(tensors)).items():
        tensors[name].copy_(torch.tensor(array))


def _tensors(network: nn.Module, adam: Adam) -> dict[str, Tensor]:
    """Return all tensors that training changes: the very ones, not copies."""
    return {
        **{f"model.{name}": tensor for name, tensor in network.state_dict().items()},
        **{f"adam.{name}": tensor.reshape(tensor.shape or (1,)) for name, tensor in adam.state().items()},
    }


def _layout(tensors: dict[str, Tensor]) -> ModelLayout:
    return tuple(TensorLayout(name, "F32", tuple(tensors[name].shape)) for name in sorted(tensors))
