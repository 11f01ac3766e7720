"""Content in a file without a name: what was put there, as long as it is open, and nothing of it afterwards."""

import errno
import os
from pathlib import Path

import pytest

from appliance.storage import spool
from appliance.storage.spool import Spooled, SpoolFile
from appliance.words.errors import DiskFullError, StateError


def test_what_is_spooled_is_read_in_parts_and_has_no_name(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path, b"0123456789")
    assert (spooled.size, spooled.read(0, 10), spooled.read(3, 5), spooled.read(4, 4)) == (
        10,
        b"0123456789",
        b"34",
        b"",
    )
    assert list(tmp_path.iterdir()) == []
    spooled.close()
    with pytest.raises(ValueError, match="closed"):
        spooled.read(0, 1)
    spooled.close()


def test_its_space_is_free_again_when_nobody_has_it_any_more(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    spooled = Spooled(tmp_path, b"content")
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del spooled
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_came_in_parts_is_there_as_long_as_anybody_has_a_view_of_it(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    file = SpoolFile(tmp_path)
    for part in (b"0123", b"", b"456789"):
        file.write(part)
    view = file.content()[2:5]
    del file
    assert bytes(view) == b"234"
    assert view.readonly
    assert list(tmp_path.iterdir()) == []
    del view
    assert len(os.listdir("/proc/self/fd")) == before
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_what_the_file_lost_is_told(tmp_path: Path) -> None:
    spooled = Spooled(tmp_path, b"content")
    with pytest.raises(StateError, match="ends before its content does"):
        spooled.read(0, 8)


def test_a_full_disk_and_a_missing_folder_are_told_and_keep_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StateError, match="there is no such file or folder"):
        Spooled(tmp_path / "none", b"content")

    def full(handle: int, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = SpoolFile(tmp_path)
    monkeypatch.setattr(spool, "write_fully", full)
    with pytest.raises(DiskFullError, match="the disk is full"):
        Spooled(tmp_path, b"content")
    with pytest.raises(DiskFullError, match="the disk is full"):
        file.write(b"content")
    del file
    assert len(os.listdir("/proc/self/fd")) == before
