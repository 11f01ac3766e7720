"""Models by digest, and the kept update: what is damaged is never returned, and never mistaken for nothing."""

import stat
from pathlib import Path

import msgspec
import pytest

from appliance.storage.checked import Absent
from appliance.storage.models import KeptUpdate, ModelStore, Residual, ResidualStore, UpdateStore
from appliance.words.errors import StateError
from appliance.words.ids import digest_of
from appliance.words.models import Metrics

UPDATE = KeptUpdate(b"i" * 16, 7, digest_of(b"base"), 12_000, Metrics(0.94, 0.2, 2000), memoryview(b"weights" * 100))


def test_a_model_comes_back_by_its_digest_after_a_restart(tmp_path: Path) -> None:
    digest = ModelStore(tmp_path / "a" / "models").put(b"model")
    store = ModelStore(tmp_path / "a" / "models")
    assert digest == digest_of(b"model")
    assert store.has(digest)
    assert store.get(digest) == b"model"
    assert store.digests() == {digest}


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    ModelStore(tmp_path / "models").put(b"model")
    UpdateStore(tmp_path / "update").put(UPDATE)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in files} == {0o700}


def test_the_same_model_twice_is_one_file_written_once(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert store.put(b"model") == store.put(b"model")
    (file,) = tmp_path.iterdir()
    before = file.stat().st_ino
    store.put(b"model")
    assert file.stat().st_ino == before


def test_a_damaged_model_is_removed_and_can_be_put_again(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    digest = store.put(b"model")
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"modeI")
    absent = store.get(digest)
    assert isinstance(absent, Absent)
    assert absent.damaged
    assert str(file) in absent.reason
    assert not store.has(digest)
    file.write_bytes(b"")
    store.put(b"model")
    assert store.get(digest) == b"model"


def test_a_model_that_never_was_is_absent_and_not_damaged(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    absent = store.get(digest_of(b"other"))
    assert isinstance(absent, Absent)
    assert not absent.damaged
    assert not store.has(digest_of(b"other"))


def test_remove_takes_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    digests = [store.put(bytes([number])) for number in range(4)]
    (tmp_path / "notes.txt").write_text("mine")
    store.doom({digests[1], digest_of(b"never seen")})
    assert store.has(digests[1])
    store.sweep()
    assert store.digests() == {digests[0], *digests[2:]}
    assert (tmp_path / "notes.txt").exists()


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../etc/passwd", "sha256:" + "A" * 64, "x" * 64])
def test_what_is_no_digest_never_becomes_a_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ValueError, match="not a digest"):
        ModelStore(tmp_path).get(digest)


def test_leftovers_of_a_crash_in_mid_write_are_removed_at_open(tmp_path: Path) -> None:
    (tmp_path / ".abc.safetensors.x1.tmp").write_bytes(b"half")
    ModelStore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for store in (ModelStore, UpdateStore, ResidualStore):
        with pytest.raises(StateError, match=str(tmp_path / "file" / "models")):
            store(tmp_path / "file" / "models")


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    (tmp_path / ("0" * 64 + ".safetensors")).mkdir()
    with pytest.raises(StateError, match="0000"):
        store.get("sha256:" + "0" * 64)


def test_the_kept_update_survives_a_restart_and_is_the_last_one(tmp_path: Path) -> None:
    store = UpdateStore(tmp_path)
    store.put(msgspec.structs.replace(UPDATE, round=6))
    store.put(UPDATE)
    assert UpdateStore(tmp_path).get() == UPDATE


def test_no_update_is_kept_before_the_first_and_after_a_drop(tmp_path: Path) -> None:
    store = UpdateStore(tmp_path)
    assert store.get() == Absent("no update is kept")
    store.put(UPDATE)
    store.drop()
    store.drop()
    assert store.get() == Absent("no update is kept")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", [0, 24, 25, 56, 57, 100, -1])
def test_one_changed_byte_anywhere_refuses_the_update_and_removes_it(tmp_path: Path, place: int) -> None:
    store = UpdateStore(tmp_path)
    store.put(UPDATE)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    _is_refused_once(store, file)


@pytest.mark.parametrize("length", [0, 1, 25, 57, 300])
def test_an_update_that_is_cut_short_is_refused_and_removed(tmp_path: Path, length: int) -> None:
    store = UpdateStore(tmp_path)
    store.put(UPDATE)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:length])
    _is_refused_once(store, file)


def test_a_whole_record_of_another_shape_is_refused_and_removed(tmp_path: Path) -> None:
    store = UpdateStore(tmp_path)
    store.put(msgspec.structs.replace(UPDATE, update_id=b"short"))
    (file,) = tmp_path.iterdir()
    _is_refused_once(store, file)


def _is_refused_once(store: UpdateStore, file: Path) -> None:
    absent = store.get()
    assert isinstance(absent, Absent)
    assert absent.damaged
    assert str(file) in absent.reason
    assert not file.exists()
    assert store.get() == Absent("no update is kept")


def test_a_model_that_is_put_again_before_the_sweep_stays(tmp_path: Path) -> None:
    """It was too old to keep, and then a rollback's candidate: its holder said that it is durable (invariant 3)."""
    store = ModelStore(tmp_path / "models")
    old, older = store.put(b"old"), store.put(b"older")
    store.doom({old, older})
    store.put(b"old")
    store.sweep()
    assert store.digests() == {old}
    store.sweep()
    assert store.digests() == {old}


LOST = Residual(b"i" * 16, 3, memoryview(b"weights" * 100))
NOTHING = Absent("no residual is kept")


def test_a_residual_holds_once_its_update_counted_and_not_before(tmp_path: Path) -> None:
    store = ResidualStore(tmp_path)
    store.put_next(LOST)
    assert ResidualStore(tmp_path).get() == NOTHING
    assert store.settle(LOST.update_id, LOST.term) is None
    assert ResidualStore(tmp_path).get() == LOST
    assert store.settle(LOST.update_id, LOST.term) is None
    assert store.settle(LOST.update_id, None) is None
    assert store.get() == LOST, "settling again changes nothing"
    store.drop()
    assert store.get() == NOTHING
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("update_id", "term"), [(b"j" * 16, 3), (b"i" * 16, 4), (b"i" * 16, None)])
def test_the_residual_of_an_update_that_did_not_count_is_given_up(
    tmp_path: Path, update_id: bytes, term: int | None
) -> None:
    store = ResidualStore(tmp_path)
    store.put_next(LOST)
    store.settle(LOST.update_id, LOST.term)
    store.put_next(msgspec.structs.replace(LOST, weights=b"next"))
    assert store.settle(update_id, term) is None
    assert store.settle(LOST.update_id, LOST.term) is None
    assert store.get() == LOST


@pytest.mark.parametrize("place", [0, 21, 22, 53, 54, 100, -1])
def test_one_changed_byte_anywhere_refuses_the_residual_and_removes_it(tmp_path: Path, place: int) -> None:
    store = ResidualStore(tmp_path)
    store.put_next(LOST)
    content = bytearray((tmp_path / "residual.next").read_bytes())
    content[place] ^= 1
    (tmp_path / "residual.next").write_bytes(content)
    (tmp_path / "residual").write_bytes(content)
    for absent in (store.get(), store.settle(LOST.update_id, LOST.term)):
        assert absent is not None
        assert isinstance(absent, Absent)
        assert absent.damaged
    assert store.get() == NOTHING
    assert list(tmp_path.iterdir()) == []
