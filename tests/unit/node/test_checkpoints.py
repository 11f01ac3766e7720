"""Training that is cut short and goes on: when its checkpoint is written, which one is used, and when it is removed."""

import resource
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.envelopes.pool import KeyPool
from appliance.node.checkpoints import Checkpoints
from appliance.node.encoder import Encoder
from appliance.node.outlets import ignore
from appliance.node.participant_work import ParticipantWork
from appliance.storage.checked import Absent
from appliance.storage.checkpoints import Checkpoint, CheckpointStore
from appliance.storage.models import KeptUpdate, ModelStore, ResidualStore, UpdateStore
from appliance.tokens.wallet import Wallet
from appliance.training import datasets
from appliance.training.images import AnnTask
from appliance.training.trainer import Trainer
from appliance.words.errors import ApplianceError, StateError
from appliance.words.ids import Monotonic
from appliance.words.settings import Data, Training

SETTINGS = Training(epochs=3, batch_size=10)
BATCHES = 3 * 8
"""Of the 72 samples in a twentieth of the digits."""


class Node:
    """The participant's work of one process, on a disk that outlives it; its clock counts mini-batches."""

    def __init__(self, folder: Path, keys: KeyPool, settings: Training = SETTINGS, shard: int = 0) -> None:
        self.now = 0.0
        self.faults: list[StateError | None] = []
        self.progress: list[float] = []
        self.store = CheckpointStore(folder / "training")
        self.updates = UpdateStore(folder / "update")
        trainer = Trainer(settings, AnnTask(datasets.load(Data(shards=20, shard=shard), folder)))
        self.models = models = ModelStore(folder / "models")
        self.base = models.put(trainer.initial_model())
        self.work = ParticipantWork(
            trainer,
            models,
            self.updates,
            keys,
            secrets.token_bytes,
            encoder=Encoder(trainer.layout, models, ResidualStore(folder / "update")),
            checkpoints=Checkpoints(self.store, lambda: Monotonic(self.now)),
            training=settings,
            wallet=Wallet(bytes(32)),
        )

    def train(self, round_: int = 1, *, after: int = 0, do: Callable[[], None] = lambda: None) -> bool:
        """Train, and do something after so many mini-batches; tell whether the update was finished."""
        note = self.work._note_progress
        end = self.now + after

        def noted(epoch: int, share: float) -> None:
            note(epoch, share)
            self.progress.append(self.work.progress)
            self.now += 1.0
            if self.now == end:
                do()

        self.work._note_progress = noted  # type: ignore[method-assign]
        self.work.may_train()
        try:
            return self.work.train(round_, self.base, self.faults.append) is not None
        finally:
            self.work._note_progress = note  # type: ignore[method-assign]

    @property
    def weights(self) -> bytes:
        kept = self.updates.get()
        assert isinstance(kept, KeptUpdate)
        return bytes(kept.weights)

    @property
    def checkpoint(self) -> tuple[int, int, int] | None:
        """Round, epoch and mini-batches of the checkpoint on disk."""
        found = self.store.get()
        if isinstance(found, Absent):
            return None
        return found.header.training.round, found.header.epoch, found.header.batches


class PowerCutError(Exception):
    """The process ends here: nothing after it is done."""


def power_cut() -> None:
    raise PowerCutError


@pytest.fixture(scope="module")
def keys() -> Iterator[KeyPool]:
    with KeyPool(1, 2048) as pool:
        yield pool


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, keys: KeyPool) -> bytes:
    node = Node(tmp_path_factory.mktemp("uninterrupted"), keys)
    assert node.train()
    return node.weights


def test_a_paused_training_goes_on_in_another_process_to_the_same_bytes(
    tmp_path: Path, keys: KeyPool, uninterrupted: bytes
) -> None:
    node = Node(tmp_path, keys)
    assert not node.train(after=11, do=node.work.pause)
    assert node.checkpoint == (1, 1, 3)
    again = Node(tmp_path, keys)
    assert again.train()
    assert again.progress[0] == pytest.approx(11 / BATCHES), "not from 0"
    assert len(again.progress) == 1 + BATCHES - 11
    assert again.weights == uninterrupted
    assert again.checkpoint is None, "its update is finished"


def test_also_in_the_same_process_and_however_often(tmp_path: Path, keys: KeyPool, uninterrupted: bytes) -> None:
    node = Node(tmp_path, keys)
    for _ in range(4):
        assert not node.train(after=5, do=node.work.pause)
    assert node.checkpoint is not None
    assert node.train()
    assert node.weights == uninterrupted


def test_a_checkpoint_is_written_as_often_as_is_set(tmp_path: Path, keys: KeyPool, uninterrupted: bytes) -> None:
    node = Node(tmp_path, keys, Training(epochs=3, batch_size=10, checkpoint_s=9.0))
    with pytest.raises(PowerCutError):
        node.train(after=23, do=power_cut)
    assert node.faults == [None, None], "after 9 and 18 mini-batches"
    assert node.checkpoint == (1, 2, 2)
    again = Node(tmp_path, keys, Training(epochs=3, batch_size=10, checkpoint_s=1e6))
    assert again.train()
    assert again.progress[0] == pytest.approx(18 / BATCHES)
    assert again.weights == uninterrupted
    assert again.faults == [], "how often it is written says nothing about the training"


def test_without_checkpoints_a_paused_training_begins_anew(tmp_path: Path, keys: KeyPool, uninterrupted: bytes) -> None:
    node = Node(tmp_path, keys, Training(epochs=3, batch_size=10, checkpoint_s=0.0))
    assert not node.train(after=11, do=node.work.pause)
    assert node.checkpoint is None
    assert node.train()
    assert node.weights == uninterrupted


@pytest.mark.parametrize("change", ["round", "settings", "shard", "base"])
def test_a_checkpoint_of_another_training_is_dropped(
    tmp_path: Path, keys: KeyPool, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    node = Node(tmp_path, keys)
    assert not node.train(after=11, do=node.work.pause)
    settings = Training(epochs=3, batch_size=10, learning_rate=2e-3) if change == "settings" else SETTINGS
    again = Node(tmp_path, keys, settings, shard=int(change == "shard"))
    if change == "base":
        again.base = again.work._models.put(
            Trainer(Training(seed=5), AnnTask(datasets.load(Data(), tmp_path))).initial_model()
        )
    assert again.train(2 if change == "round" else 1)
    assert again.progress[0] < 2 / BATCHES
    assert "dropping the checkpoint of round 1: it is of another training" in caplog.text
    assert again.checkpoint is None


def test_one_whose_round_is_over_leaves_nothing(tmp_path: Path, keys: KeyPool) -> None:
    node = Node(tmp_path, keys)
    assert not node.train(after=11, do=node.work.pause)
    assert not node.work.has_checkpoint(0)
    node.work.drop_checkpoint(0, ignore)
    assert node.checkpoint is not None
    assert node.work.has_checkpoint(1)
    node.work.drop_checkpoint(1, ignore)
    assert node.checkpoint is None
    assert not node.work.has_checkpoint(1)
    assert not node.train(after=11, do=node.work.pause)

    def pause_and_stop() -> None:
        node.work.pause()
        node.work.stop()

    assert not node.train(after=3, do=pause_and_stop)
    assert node.checkpoint is None


def test_a_process_that_starts_knows_of_the_checkpoint_on_its_disk(tmp_path: Path, keys: KeyPool) -> None:
    node = Node(tmp_path, keys)
    assert not node.train(7, after=11, do=node.work.pause)
    again = Node(tmp_path, keys)
    assert (again.work.has_checkpoint(6), again.work.has_checkpoint(7)) == (False, True)


def test_a_damaged_checkpoint_is_said_and_training_begins_anew(
    tmp_path: Path, keys: KeyPool, uninterrupted: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(tmp_path, keys)
    assert not node.train(after=11, do=node.work.pause)
    file = tmp_path / "training" / "checkpoint"
    file.write_bytes(file.read_bytes()[:-1])
    again = Node(tmp_path, keys)
    assert f"{file} was damaged or of another version, and was removed" in caplog.text
    assert again.train()
    assert again.progress[0] < 2 / BATCHES
    assert again.weights == uninterrupted


def test_a_checkpoint_that_can_not_be_used_is_tried_once(tmp_path: Path, keys: KeyPool, uninterrupted: bytes) -> None:
    """Whole, and of this training by all that it says: another version of the program put other tensors in it."""
    node = Node(tmp_path, keys)
    assert not node.train(after=11, do=node.work.pause)
    found = node.store.get()
    assert isinstance(found, Checkpoint)
    node.store.put(Checkpoint(found.header, b"of another version"))
    with pytest.raises(ApplianceError):
        node.train()
    assert node.checkpoint is None
    assert node.train()
    assert node.weights == uninterrupted


def test_a_base_that_has_to_be_fetched_again_leaves_the_checkpoint(
    tmp_path: Path, keys: KeyPool, uninterrupted: bytes
) -> None:
    node = Node(tmp_path, keys)
    assert not node.train(after=11, do=node.work.pause)
    base = node.models.get(node.base)
    assert isinstance(base, bytes)
    node.models.doom({node.base})
    node.models.sweep()
    with pytest.raises(ApplianceError, match="the base model is not here"):
        node.train()
    node.models.put(base)
    assert node.checkpoint == (1, 1, 3)
    assert node.train()
    assert len(node.progress) == 11 + 1 + BATCHES - 11
    assert node.weights == uninterrupted


def test_a_full_disk_is_told_and_training_goes_on(tmp_path: Path, keys: KeyPool, uninterrupted: bytes) -> None:
    node = Node(tmp_path, keys, Training(epochs=3, batch_size=10, checkpoint_s=7.0))
    previous = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, previous[1]))
    try:
        assert node.train(after=20, do=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, previous))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, previous)
    assert [type(fault) for fault in node.faults] == [StateError, StateError, type(None)]
    assert str(tmp_path / "training" / "checkpoint") in str(node.faults[0])
    assert node.weights == uninterrupted
    assert [file.name for file in (tmp_path / "training").iterdir()] == [], "no part of one is left"
