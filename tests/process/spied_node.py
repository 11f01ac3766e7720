"""A node that writes down the private keys that it makes, for the test that looks for them on the wire.

As ``p2pfl-node``; the file ``keys.txt`` beside its configuration gets a line in hex for each number of each RSA key.
"""

import os
import sys
from pathlib import Path
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from appliance.cli.main import main
from appliance.envelopes.pool import KeyPool

_take = KeyPool._take


def _spy(pool: KeyPool, kind: bytes) -> RSAPrivateKey:
    key = _take(pool, kind)
    numbers = key.private_numbers()
    size = key.key_size // 8
    lines = [number.to_bytes(size, "big").lstrip(b"\0").hex() for number in (numbers.p, numbers.q, numbers.d)]
    file = os.open(Path(sys.argv[-1]).with_name("keys.txt"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, "".join(f"{line}\n" for line in lines).encode())
    finally:
        os.close(file)
    return key


if __name__ == "__main__":
    with patch.object(KeyPool, "_take", _spy):
        main()
