"""What the datagrams need from files: the boot counter and the cluster's secret."""

from pathlib import Path

from appliance.datagrams.sealing import SECRET_SIZE
from appliance.storage.files import state_error, write_atomically
from appliance.storage.guarded import read_guarded
from appliance.words.errors import OperatorError, StateError

_LAST = 2**32 - 1


def next_boot(path: Path) -> int:
    """Count one more start of this node, durably, and return it: the part of a nonce that no restart repeats.

    Raises StateError if the file can't be written, or is damaged: to begin again at 1 would repeat nonces.
    """
    try:
        text = path.read_text("ascii") if path.exists() else "0"
        boot = int(text) + 1
    except OSError as error:
        raise state_error("read", path, error) from error
    except ValueError:
        boot = 0
    if not 0 < boot <= _LAST:
        raise StateError(f"{path} is damaged: write into it a number larger than the node's count of starts so far")
    write_atomically(path, b"%d\n" % boot)
    return boot


def read_secret(path: Path) -> bytes:
    """Read the cluster's secret. Raises OperatorError, in one sentence, if the file can't be used."""
    secret = read_guarded(path)
    if len(secret) != SECRET_SIZE:
        raise OperatorError(
            f"{path}: has {len(secret)} bytes, and identity.consensus_secret must have {SECRET_SIZE}; "
            "copy the file from another node"
        )
    return secret
