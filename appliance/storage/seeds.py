"""A secret of this node alone, made at its first start and the same from then on."""

import secrets
from pathlib import Path

from appliance.storage.files import write_atomically
from appliance.storage.guarded import read_guarded

SEED_BYTES = 32


def seed(path: Path) -> bytes:
    """Return the 32 bytes in a file of mode 0600, which is made if it is not there or not whole.

    Raises:
        OperatorError: others may read it, or it can't be read or written.
    """
    if path.exists():
        content = read_guarded(path)
        if len(content) == SEED_BYTES:
            return content
    content = secrets.token_bytes(SEED_BYTES)
    write_atomically(path, content, 0o600)
    return content
