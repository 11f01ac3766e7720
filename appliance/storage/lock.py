"""One process a state folder: two that write the same files would break every promise made of them."""

import fcntl
import os
from pathlib import Path

from appliance.storage.files import state_error
from appliance.words.errors import StateError


def lock_folder(folder: Path) -> int:
    """Hold the folder, which is made if it is not there, until the returned handle is closed. Raises StateError."""
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise state_error("open", path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise StateError(
            f"{folder} is used by another process; stop it, or give this node a folder of its own"
        ) from None
    except OSError as error:
        os.close(handle)
        raise state_error("lock", path, error) from error
    return handle
