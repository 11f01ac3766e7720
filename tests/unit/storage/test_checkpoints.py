"""The checkpoint's file: durable, whole or dropped, never another's."""

from pathlib import Path

import pytest

from appliance.storage.checked import Absent
from appliance.storage.checkpoints import Checkpoint, CheckpointHeader, CheckpointStore, TrainingId
from appliance.words.ids import digest_of

HEADER = CheckpointHeader(TrainingId(7, digest_of(b"base"), digest_of(b"origin")), 2, 31)
TENSORS = bytes(range(256)) * 9


def _kept(folder: Path) -> tuple[CheckpointStore, Path]:
    store = CheckpointStore(folder / "training")
    store.put(Checkpoint(HEADER, TENSORS))
    return store, folder / "training" / "checkpoint"


def test_what_was_put_comes_back_also_to_another_process(tmp_path: Path) -> None:
    _, file = _kept(tmp_path)
    assert CheckpointStore(tmp_path / "training").get() == Checkpoint(HEADER, TENSORS)
    assert (file.stat().st_mode & 0o777, [entry.name for entry in file.parent.iterdir()]) == (0o600, ["checkpoint"])


def test_the_newest_replaces_the_one_before_and_none_is_left_after_drop(tmp_path: Path) -> None:
    store, _ = _kept(tmp_path)
    newer = Checkpoint(CheckpointHeader(HEADER.training, 3, 0), b"")
    store.put(newer)
    assert store.get() == newer
    for _ in range(2):
        store.drop()
        assert store.get() == Absent("there is no checkpoint")


@pytest.mark.parametrize("at", [0, 30, 60, 70, 100, -1])
def test_a_flipped_byte_is_found_and_the_file_dropped(tmp_path: Path, at: int) -> None:
    store, file = _kept(tmp_path)
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    found = store.get()
    assert isinstance(found, Absent)
    assert found.damaged
    assert found.reason == f"{file} was damaged or of another version, and was removed"
    assert not file.exists()
    assert store.get() == Absent("there is no checkpoint")


def test_every_cut_is_found(tmp_path: Path) -> None:
    store, file = _kept(tmp_path)
    whole = file.read_bytes()
    for size in range(0, len(whole), 17):
        file.write_bytes(whole[:size])
        found = store.get()
        assert isinstance(found, Absent)
        assert found.damaged
