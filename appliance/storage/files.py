"""Files that survive power loss: temp file, fsync, atomic replace, fsync of the folder (design.md, invariant 9)."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from appliance.words.errors import DiskFullError, StateError
from appliance.words.parts import Content


def write_atomically(
    path: Path, content: bytes | Sequence[bytes | memoryview], mode: int = 0o600, *, may_replace: bool = True
) -> None:
    """Replace ``path`` by ``content``, durably: after a crash at any moment it holds the old bytes or the new.

    Content in parts is written part after part, so that large ones need not be joined in memory.

    The temporary file lies in the same folder, so that the replace never crosses a file system; it is gone after a
    failure. Raises StateError, also if something is there and ``may_replace`` is false.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            os.fchmod(handle, mode)
            for part in (content,) if isinstance(content, bytes) else content:
                write_fully(handle, part)
            os.fsync(handle)
        finally:
            os.close(handle)
        if may_replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
            os.unlink(temporary)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, FileExistsError) and not may_replace:
            raise StateError(f"can't write {path}: it is there already, and stays as it is") from None
        raise state_error("write", path, error) from error
    fsync_folder(path.parent)


def remove_durably(path: Path) -> None:
    """Remove ``path``, so that it stays removed after power loss; one that is not there is fine. Raises StateError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise state_error("remove", path, error) from error
    fsync_folder(path.parent)


def replace_durably(source: Path, target: Path) -> None:
    """Let a durable file take the place and name of another one in its folder. Raises StateError."""
    try:
        os.replace(source, target)
    except OSError as error:
        raise state_error("replace", target, error) from error
    fsync_folder(target.parent)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable (fsync of a file does not cover its name). Raises StateError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise state_error("fsync", path, error) from error


def write_fully(handle: int, content: Content) -> None:
    """Write all of ``content``: a single write may be short (near a full disk, for one). Raises OSError."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def open_folder(folder: Path) -> None:
    """Make a folder, readable by its owner only, and remove what a crash in mid-write left in it. Raises StateError."""
    try:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True)
            fsync_folder(folder.parent)
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink()
    except OSError as error:
        raise state_error("open", folder, error) from error


def read_if_there(path: Path) -> bytes | None:
    """Return what a file holds; None if it is not there. Raises StateError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise state_error("read", path, error) from error


_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EACCES: "permission is denied; give the folder and its files to the user that runs the node",
    errno.EPERM: "permission is denied; give the folder and its files to the user that runs the node",
    errno.EROFS: "the file system is read-only; mount it writable, or put the state folder elsewhere",
    errno.ENOENT: "there is no such file or folder; create the folder or correct the path in the configuration",
    errno.EEXIST: "a file lies where a folder must be; remove it or correct the path in the configuration",
    errno.ENOTDIR: "a file lies where a folder must be; remove it or correct the path in the configuration",
    errno.EIO: "the disk reports an error; check the disk, then start the node again",
}


def state_error(verb: str, path: Path, error: OSError) -> StateError:
    """Return the StateError that tells a person what failed on which file, and what to do."""
    advice = _ADVICE.get(error.errno or 0, f"the system says: {error.strerror or error}")
    kind = DiskFullError if DiskFullError.is_told_by(error) else StateError
    return kind(f"can't {verb} {path}: {advice}")
