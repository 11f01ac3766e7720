"""One process a state folder: two that write the same files would break every promise made of them."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from appliance.storage.files import state_error
from appliance.words.errors import StateError


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the folder, which is made if it is not there, for as long as the context lasts. Raises StateError."""
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise state_error("open", path, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(
                f"{folder} is used by another process; stop it, or give this node a folder of its own"
            ) from None
        yield
    finally:
        os.close(handle)
