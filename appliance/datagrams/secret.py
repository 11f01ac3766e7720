"""The cluster's secret, which seals the datagrams of consensus."""

from pathlib import Path

from appliance.datagrams.sealing import SECRET_SIZE
from appliance.storage.guarded import read_guarded
from appliance.words.errors import OperatorError


def read_secret(path: Path) -> bytes:
    """Read the cluster's secret. Raises OperatorError, in one sentence, if the file can't be used."""
    secret = read_guarded(path)
    if len(secret) != SECRET_SIZE:
        raise OperatorError(
            f"{path}: has {len(secret)} bytes, and identity.consensus_secret must have {SECRET_SIZE}; "
            "copy the file from another node"
        )
    return secret
