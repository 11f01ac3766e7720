"""Durable files: old or new content, never half, and no temporary left behind."""

import errno
import os
import stat
from pathlib import Path

import pytest

from appliance.storage.files import fsync_folder, remove_durably, replace_durably, write_atomically
from appliance.storage.log import ConsensusLog
from appliance.words.errors import StateError


def test_writes_and_replaces_with_the_asked_mode(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")
    write_atomically(path, b"new", mode=0o640)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["state"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: real(handle, bytes(content[:3])))
    write_atomically(tmp_path / "state", b"0123456789")
    assert (tmp_path / "state").read_bytes() == b"0123456789"


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_full_disk_keeps_the_old_content_and_leaves_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"old")

    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StateError, match=r"can't write .*state: the disk is full"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def test_missing_folder_is_one_plain_sentence(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no such file or folder"):
        write_atomically(tmp_path / "nowhere" / "state", b"")
    with pytest.raises(StateError, match="there is no such file or folder"):
        fsync_folder(tmp_path / "nowhere")


def test_removes_and_does_not_mind_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, b"x")
    remove_durably(path)
    remove_durably(path)
    assert not path.exists()


def test_remove_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StateError, match="can't remove"):
        remove_durably(tmp_path / "folder")


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each call that makes something durable, or changes a name."""
    calls: list[str] = []
    real_fsync, real_replace, real_unlink = os.fsync, os.replace, os.unlink

    def fsync(handle: int) -> None:
        calls.append("fsync of a folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "fsync of a file")
        real_fsync(handle)

    def replace(source: str, target: Path) -> None:
        calls.append("replace")
        real_replace(source, target)

    def unlink(path: Path) -> None:
        calls.append("unlink")
        real_unlink(path)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "unlink", unlink)
    return calls


def test_a_name_is_durable_only_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch)
    write_atomically(tmp_path / "state", b"x")
    assert calls == ["fsync of a file", "replace", "fsync of a folder"]
    calls.clear()
    remove_durably(tmp_path / "state")
    assert calls == ["unlink", "fsync of a folder"]
    (tmp_path / "next").write_bytes(b"y")
    calls.clear()
    replace_durably(tmp_path / "next", tmp_path / "state")
    assert calls == ["replace", "fsync of a folder"]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("state", b"y")]


def test_a_replacement_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"can't replace .*state: there is no such file"):
        replace_durably(tmp_path / "next", tmp_path / "state")


def test_a_new_log_is_durable_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch)
    with ConsensusLog(tmp_path / "consensus"):
        assert calls[-2:] == ["fsync of a file", "fsync of a folder"]


def test_what_is_there_may_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "export"
    write_atomically(path, b"first", may_replace=False)
    with pytest.raises(StateError, match=r"export: it is there already, and stays as it is"):
        write_atomically(path, b"second", may_replace=False)
    assert path.read_bytes() == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["export"]
