"""Training and judging of a task's network on one node's samples."""

import functools
import math
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor, nn

from appliance.aggregation.state import parse_model, serialise_model
from appliance.aggregation.tensors import serialise
from appliance.aggregation.validation import is_finite
from appliance.training.adam import Adam
from appliance.training.checkpoint import Checkpoint, TrainingState, capture, origin, restore, samples_digest
from appliance.training.device import device_of
from appliance.training.network import layout_of, network_of
from appliance.training.proximal import Proximal
from appliance.training.task import Task, fingerprint
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import Digest
from appliance.words.models import Metrics, SampleCount
from appliance.words.settings import Training

Progress = Callable[[int, float], None]
"""Is told the epoch, from 0, and the share of it that is done, 0 to 1; after each mini-batch, in training's thread."""

_JUDGED_AT_ONCE = 500
"""Held-out samples in one forward pass: hidden layers of 4 MB. More are no faster, and leave memory behind."""

_JUDGES = 4
"""Threads that judge a model together, at most: each needs memory for its samples' hidden layers."""


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
    """Trains one task's network. Its methods share no state, so threads may call them at the same time.

    On the CPU everything is deterministic: the same seed, samples, base, round and number of threads give the same
    bytes. PyTorch's number of threads is one setting for the whole process; this class sets it.

    Attributes:
        layout: the tensors of the network, which every model of this task has.
        fingerprint: tells this task from others.
        samples: how many this node trains on.
    """

    def __init__(self, settings: Training, task: Task) -> None:
        """Raises OperatorError if the task's network can't be averaged, or the device is not there."""
        self._settings = settings
        self._device = device_of(settings)
        self._task = task
        self.samples = len(task.training)
        self.layout = layout_of(task)
        self.fingerprint = fingerprint(task, self.layout)
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
        return origin(self._settings, self._learned_from)

    @functools.cached_property
    def _learned_from(self) -> Digest:
        """Hashed once: the samples may be many, and never change."""
        return samples_digest(self._task, self.fingerprint)

    def initial_model(self) -> bytes:
        """Return the safetensors bytes that begin a lineage: of the file that the settings name, or of a fresh network,
        initialised by the settings' seed as PyTorch does it.

        Raises:
            OperatorError: the file can't be read, or holds no such model.
        """
        if self._settings.initial is not None:
            return self._initial_from(self._settings.initial)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._settings.seed)
            network = self._task.network()
        return self._bytes_of(network)

    def train(
        self,
        base: bytes,
        *,
        round: int,  # noqa: A002 - the product's word for it
        stop: Event,
        progress: Progress | None = None,
        resume: TrainingState | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Trained | None:
        """Train from a base model: the settings' epochs of Adam with fresh moments, on mini-batches.

        Args:
            base: safetensors bytes of ``layout``; the state of an aggregation strategy in them has no effect.
            round: with the settings' seed, the epoch and the shard it seeds the order of the samples.
            stop: when set, training ends within a batch (some milliseconds).
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
        del base  # as much as the network itself, and nobody else may hold it
        parameters = list(network.parameters())
        adam, pull = Adam(parameters, settings.learning_rate), Proximal(parameters, settings.proximal)
        batches = math.ceil(self.samples / settings.batch_size)
        epochs, skip = range(settings.epochs), 0
        if resume is not None:
            restore(resume, network, adam)
            epochs, skip = range(resume.epoch, settings.epochs), resume.batches
            if progress is not None:
                progress(resume.epoch, skip / batches)
        with _denormals_flushed():
            for epoch in epochs:
                for done, (inputs, targets) in enumerate(self._batches(settings, round, epoch, skip), start=skip + 1):
                    if stop.is_set():
                        return None
                    loss = self._task.loss(network(inputs), targets)
                    # Not backward(): it would add each gradient to one kept from the last batch, and cost a pass more.
                    adam.step(pull.add_to(torch.autograd.grad(loss, parameters)))
                    if progress is not None:
                        progress(epoch, done / batches)
                    if checkpoint is not None:
                        checkpoint(functools.partial(capture, network, adam, epoch, done))
                skip = 0
        _check_finite(parameters, round, settings.learning_rate)
        return Trained(self._bytes_of(network), self.samples, self._judge(network, settings.judged_samples))

    def evaluate(self, model: bytes, limit: int | None = None) -> Metrics:
        """Judge a model on the first ``limit`` held-out samples (all if None), which are in no special order.

        On several cores, and to the same bits as on one: a round waits for it, and participants wait for the round.

        Raises RemoteError if it is not of this layout. A loss too large for a float is given as the largest one.
        """
        return self._judge(self._network_of(model), limit, judges=self._judges)

    def _initial_from(self, file: Path) -> bytes:
        try:
            arrays = parse_model(file.read_bytes(), self.layout)
            if all(map(is_finite, arrays.values())):
                return serialise_model(arrays, self.layout)
            problem = "holds a value that is not finite"
        except OSError as error:
            problem = f"can't be read ({error.strerror})"
        except RemoteError as error:
            problem = f"holds no model of this network: {error.reason}"
        raise OperatorError(f"training.initial: {file} {problem}; name a safetensors file of it, or remove the key")

    def _batches(self, settings: Training, round_: int, epoch: int, skip: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and targets of at most a batch's size; each sample once.

        ``skip``: leave out so many batches at the beginning.
        """
        task = self._task
        seeds = (settings.seed, round_, epoch, task.shard)
        order = torch.from_numpy(np.random.default_rng(seeds).permutation(self.samples))
        for start in range(skip * settings.batch_size, self.samples, settings.batch_size):
            places = order[start : start + settings.batch_size]
            features = task.training.features.index_select(0, places)
            targets = task.training.targets.index_select(0, places)
            yield task.inputs(features.to(self._device)), targets.to(self._device)

    @property
    def _judges(self) -> int:
        """Threads that judge a model together: one where PyTorch has several of its own, or a device of its own."""
        alone = self._settings.threads > 1 or self._device.type != "cpu"
        return 1 if alone else min(len(os.sched_getaffinity(0)), _JUDGES)

    def _judge(self, network: nn.Module, limit: int | None, *, judges: int = 1) -> Metrics:
        held_out = self._task.held_out
        count = min(limit or len(held_out), len(held_out))
        network.train(mode=False)
        parts = [slice(start, min(start + _JUDGED_AT_ONCE, count)) for start in range(0, count, _JUDGED_AT_ONCE)]
        with ThreadPoolExecutor(judges, "judge") as pool:
            judge = functools.partial(self._judge_part, network)
            judged = list(pool.map(judge, parts) if judges > 1 else map(judge, parts))
        right, mean = sum(right for right, _ in judged), sum(loss for _, loss in judged) / count
        return Metrics(right / count, mean if math.isfinite(mean) else sys.float_info.max, count)

    def _judge_part(self, network: nn.Module, part: slice) -> tuple[int, float]:
        """Return how many of these held-out samples are right, and the sum of their losses."""
        task = self._task
        with torch.inference_mode():  # of this thread alone
            targets = task.held_out.targets[part].to(self._device)
            outputs = network(task.inputs(task.held_out.features[part].to(self._device)))
            return task.right(outputs, targets), task.loss(outputs, targets).item() * len(targets)

    def _network_of(self, model: bytes) -> nn.Module:
        return network_of(self._task, model, self.layout).to(self._device)

    def _bytes_of(self, network: nn.Module) -> bytes:
        return serialise({name: tensor.cpu().numpy() for name, tensor in network.state_dict().items()}, self.layout)


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
