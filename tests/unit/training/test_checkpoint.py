"""A training that was interrupted and goes on ends with the bytes of one that was not."""

import threading
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import torch

from appliance.training.adam import Adam
from appliance.training.checkpoint import TrainingState, capture, restore
from appliance.training.examples import Shard
from appliance.training.images import AnnTask
from appliance.training.trainer import Trained, Trainer
from appliance.words.errors import RemoteError
from appliance.words.settings import Training
from tests.unit.training.test_trainer import digits

SETTINGS = Training(epochs=3, batch_size=50)
BATCHES = 6
"""In each epoch: a fifth of the digits' training images."""
Capture = Callable[[], TrainingState]


def interrupted(trainer: Trainer, base: bytes, after: int, resume: TrainingState | None = None) -> TrainingState:
    """Train until so many mini-batches are done, and return the state then."""
    stop, done, states = threading.Event(), [0], []

    def after_batch(capture: Capture) -> None:
        done[0] += 1
        if done[0] == after:
            states.append(capture())
            stop.set()

    result = trainer.train(base, round=4, stop=stop, resume=resume, checkpoint=after_batch)
    assert len(states) == 1
    assert (result is None) or after == 3 * BATCHES
    return states[0]


def resumed(base: bytes, state: TrainingState | None) -> Trained:
    """Train to the end from a state, in a fresh trainer: nothing but the state is left of the one before."""
    result = Trainer(SETTINGS, AnnTask(digits())).train(base, round=4, stop=threading.Event(), resume=state)
    assert result is not None
    return result


@pytest.mark.parametrize("after", [1, 4, BATCHES, BATCHES + 1, 2 * BATCHES, 3 * BATCHES])
def test_an_interrupted_training_ends_with_the_same_bytes(after: int) -> None:
    trainer = Trainer(SETTINGS, AnnTask(digits()))
    base = trainer.initial_model()
    state = interrupted(trainer, base, after)
    assert BATCHES * state.epoch + state.batches == after
    assert resumed(base, state) == resumed(base, None)


def test_interrupted_again_and_again_it_is_still_the_same() -> None:
    trainer = Trainer(SETTINGS, AnnTask(digits()))
    base = trainer.initial_model()
    state: TrainingState | None = None
    for _ in range(3 * BATCHES - 1):
        state = interrupted(trainer, base, 1, state)
    assert state is not None
    assert (state.epoch, state.batches) == (2, BATCHES - 1)
    assert resumed(base, state) == resumed(base, None)


def test_to_capture_the_state_changes_nothing_and_it_does_not_change_with_training() -> None:
    trainer = Trainer(SETTINGS, AnnTask(digits()))
    base = trainer.initial_model()
    states: list[TrainingState] = []
    result = trainer.train(base, round=4, stop=threading.Event(), checkpoint=lambda capture: states.append(capture()))
    assert result == resumed(base, None)
    assert len({bytes(state.tensors) for state in states}) == len(states) == 3 * BATCHES
    assert all(resumed(base, state) == result for state in states[::7])


def test_progress_goes_on_from_the_state() -> None:
    trainer = Trainer(SETTINGS, AnnTask(digits()))
    base = trainer.initial_model()
    state = interrupted(trainer, base, BATCHES + 3)
    seen: list[float] = []
    trainer.train(
        base, round=4, stop=threading.Event(), resume=state, progress=lambda epoch, share: seen.append(epoch + share)
    )
    assert seen[0] == 1.5
    assert seen == sorted(seen)
    assert seen[-1] == 3.0


def test_the_state_holds_the_network_and_adam_and_fits_no_other_network() -> None:
    ours, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 4)
    adam = Adam(list(ours.parameters()), 1e-2)
    adam.step([torch.ones_like(parameter) for parameter in ours.parameters()])
    state = capture(ours, adam, 1, 2)
    again = torch.nn.Linear(3, 2)
    restored = Adam(list(again.parameters()), 1e-2)
    restore(state, again, restored)
    assert capture(again, restored, 1, 2) == state
    assert float(restored.state()["step"]) == 1.0
    with pytest.raises(RemoteError):
        restore(state, other, Adam(list(other.parameters()), 1e-2))


def test_the_origin_stands_for_settings_and_shard_and_not_for_when_to_train() -> None:
    shard = digits()
    changed = shard.training.images.copy()
    changed[0, 0, 0] ^= 1
    whole = Trainer(SETTINGS, AnnTask(shard)).origin
    for same in (Training(epochs=3, batch_size=50, checkpoint_s=1.0), Training(epochs=3, batch_size=50, hours=("a",))):
        assert Trainer(same, AnnTask(shard)).origin == whole
    changes = ({"seed": 1}, {"epochs": 2}, {"batch_size": 7}, {"learning_rate": 7.0})
    others = [
        *(Trainer(msgspec.structs.replace(SETTINGS, **change), AnnTask(shard)).origin for change in changes),
        Trainer(SETTINGS, AnnTask(Shard(1, shard.training, shard.held_out))).origin,
        Trainer(SETTINGS, AnnTask(Shard(0, shard.training.take(np.arange(9)), shard.held_out))).origin,
        Trainer(
            SETTINGS, AnnTask(Shard(0, type(shard.training)(changed, shard.training.labels), shard.held_out))
        ).origin,
    ]
    assert len({whole, *others}) == 1 + len(others)
