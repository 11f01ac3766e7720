"""Files that a person put in place: read with errors that say what to do, secrets only if nobody else can read them."""

import stat
from pathlib import Path

from appliance.words.errors import OperatorError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_guarded(path: Path) -> bytes:
    """Read a secret file.

    Raises:
        OperatorError: it can't be read, or others than its owner can read it too.
    """
    content = read_file(path)
    if path.stat().st_mode & _OTHERS:
        raise OperatorError(f"{path}: others than its owner may read this secret; run: chmod 600 {path}")
    return content


def read_file(path: Path) -> bytes:
    """Read a file of the node's identity. Raises OperatorError if it can't be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise OperatorError(f"{path}: is missing; p2pfl-node init makes it, or pki csr and pki issue do") from None
    except OSError as error:
        raise OperatorError(f"{path}: can't be read ({error.strerror}); check its owner and mode") from None
