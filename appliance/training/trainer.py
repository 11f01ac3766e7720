"""Training and judging of the paper's network on one shard."""

import functools
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor, nn
from torch.nn import functional

from appliance.aggregation.tensors import parse, serialise
from appliance.training.adam import Adam
from appliance.training.ann import Ann
from appliance.training.checkpoint import Checkpoint, TrainingState, capture, origin, restore
from appliance.training.examples import Examples, Shard
from appliance.words.errors import OperatorError
from appliance.words.ids import Digest
from appliance.words.models import Metrics, ModelLayout, SampleCount, TensorLayout
from appliance.words.settings import Training

Progress = Callable[[int, float], None]
"""Is told the epoch, from 0, and the share of it that is done, 0 to 1; after each mini-batch, in training's thread."""

_JUDGED_AT_ONCE = 500
"""Held-out samples in one forward pass: hidden layers of 4 MB. More are no faster, and leave memory behind."""
_PIXEL = 1 / 255


class Trained(Struct, frozen=True):
    """A participant's finished training of one round.

    Attributes:
        weights: safetensors bytes.
        samples: how many training samples they stand for.
        metrics: of these weights on held-out data.
    """

    weights: bytes
    samples: SampleCount
    metrics: Metrics


class Trainer:
    """Trains the network on one shard. Its methods share no state, so threads may call them at the same time.

    Everything is deterministic: the same seed, shard, base, round and number of threads give the same bytes. PyTorch's
    number of threads is one setting for the whole process; this class sets it.

    Attributes:
        layout: the tensors that every model of this task must have.
        samples: training samples in the shard.
    """

    def __init__(self, settings: Training, shard: Shard) -> None:
        self._settings = settings
        self._shard = shard
        self._images, self._labels = _tensors(shard.training)
        self._held_out_images, self._held_out_labels = _tensors(shard.held_out)
        self.samples = len(shard.training)
        self.layout = _layout_of(_empty_network())
        torch.set_num_threads(settings.threads)

    @property
    def epochs(self) -> int:
        """Passes over the shard in one round."""
        return self._settings.epochs

    def set_settings(self, settings: Training) -> None:
        """Train by these settings from the next training on; ``threads`` and ``seed`` are not to differ."""
        self._settings = settings

    @property
    def origin(self) -> Digest:
        """What names all that a training's result depends on, beside its round and its base model."""
        return origin(self._settings, self._shard)

    def initial_model(self) -> bytes:
        """Return the safetensors bytes of a fresh network, initialised by the settings' seed as PyTorch does it."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._settings.seed)
            network = Ann()
        return self._bytes_of(network)

    def train(
        self,
        base: bytes,
        *,
        round: int,  # noqa: A002 - the product's word for it
        stop: Event,
        progress: Progress | None = None,
        limit: int | None = None,
        resume: TrainingState | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Trained | None:
        """Train from a base model: the settings' epochs of Adam with fresh moments, on mini-batches of cross entropy.

        Args:
            base: safetensors bytes of ``layout``.
            round: with the settings' seed, the epoch and the shard it seeds the order of the samples.
            stop: when set, training ends within a batch (some milliseconds).
            limit: judge the result on this many held-out samples; all if None. All of MNIST's 10,000 take a fifth of
                the time that one epoch of 12,000 does.
            resume: go on from here, to the same bytes as without a break. It must be of a training with the same base,
                round and ``origin``.
            checkpoint: may take the state of the training.

        Returns:
            None if it was stopped.

        Raises:
            RemoteError: if the base is not of this layout.
            OperatorError: if training diverged.
        """
        settings = self._settings  # another thread may set others meanwhile
        network = self._network_of(base)
        parameters = list(network.parameters())
        adam = Adam(parameters, settings.learning_rate)
        batches = math.ceil(self.samples / settings.batch_size)
        epochs, skip = range(settings.epochs), 0
        if resume is not None:
            restore(resume, network, adam)
            epochs, skip = range(resume.epoch, settings.epochs), resume.batches
            if progress is not None:
                progress(resume.epoch, skip / batches)
        with _denormals_flushed():
            for epoch in epochs:
                for done, (images, labels) in enumerate(self._batches(settings, round, epoch, skip), start=skip + 1):
                    if stop.is_set():
                        return None
                    loss = functional.cross_entropy(network(images), labels)
                    # Not backward(): it would add each gradient to one kept from the last batch, and cost a pass more.
                    adam.step(torch.autograd.grad(loss, parameters))
                    if progress is not None:
                        progress(epoch, done / batches)
                    if checkpoint is not None:
                        checkpoint(functools.partial(capture, network, adam, epoch, done))
                skip = 0
        _check_finite(parameters, round, settings.learning_rate)
        return Trained(self._bytes_of(network), self.samples, self._judge(network, limit))

    def evaluate(self, model: bytes, limit: int | None = None) -> Metrics:
        """Judge a model on the first ``limit`` held-out samples (all if None), which are in no special order.

        Raises RemoteError if it is not of this layout. A loss too large for a float is given as the largest one.
        """
        return self._judge(self._network_of(model), limit)

    def _batches(self, settings: Training, round_: int, epoch: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield pixels, float32 [batch, 28, 28] from 0 to 1, and labels, int64 [batch]; each sample once.

        ``skip``: leave out so many batches at the beginning.
        """
        seeds = (settings.seed, round_, epoch, self._shard.number)
        order = torch.from_numpy(np.random.default_rng(seeds).permutation(self.samples))
        for start in range(skip * settings.batch_size, self.samples, settings.batch_size):
            places = order[start : start + settings.batch_size]
            yield self._images.index_select(0, places) * _PIXEL, self._labels.index_select(0, places)

    def _judge(self, network: nn.Module, limit: int | None) -> Metrics:
        count = min(limit or len(self._shard.held_out), len(self._shard.held_out))
        right, loss = 0, 0.0
        with torch.inference_mode():
            for start in range(0, count, _JUDGED_AT_ONCE):
                part = slice(start, min(start + _JUDGED_AT_ONCE, count))
                labels = self._held_out_labels[part]
                logits = network(self._held_out_images[part] * _PIXEL)
                loss += functional.cross_entropy(logits, labels, reduction="sum").item()
                right += int((logits.argmax(1) == labels).sum())
        mean = loss / count
        return Metrics(right / count, mean if math.isfinite(mean) else sys.float_info.max, count)

    def _network_of(self, model: bytes) -> nn.Module:
        """Return a network with these weights (copied: a network changes its weights in place)."""
        network = _empty_network()
        arrays = parse(model, self.layout)
        network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, assign=True)
        return network

    def _bytes_of(self, network: nn.Module) -> bytes:
        return serialise({name: tensor.numpy() for name, tensor in network.state_dict().items()}, self.layout)


def _check_finite(parameters: list[nn.Parameter], round_: int, learning_rate: float) -> None:
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise OperatorError(
            f"training of round {round_} diverged (a weight is not finite); "
            f"lower training.learning_rate, which is {learning_rate:g}"
        )


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Take floats below 1e-38 for 0 in this thread.

    Adam's moments of a weight that hardly changes any more decay into that range, where x86 computes many times slower:
    on the digits, after 130 epochs, an epoch took three times as long as before.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _empty_network() -> nn.Module:
    """Return a network whose tensors have shapes and no memory yet."""
    with torch.device("meta"):
        return Ann()


def _layout_of(network: nn.Module) -> ModelLayout:
    tensors = sorted(network.state_dict().items())
    return tuple(TensorLayout(name, "F32", tuple(tensor.shape)) for name, tensor in tensors)


def _tensors(examples: Examples) -> tuple[Tensor, Tensor]:
    """Return the images, uint8 in the same memory, and the labels as cross entropy wants them, int64."""
    return torch.from_numpy(examples.images), torch.from_numpy(examples.labels.astype(np.int64))
