"""A node that writes down the private keys that it makes, for the test that looks for them on the wire.

As ``p2pfl-node``; the file ``keys.txt`` beside its configuration gets a line in hex for each number of each RSA key.
"""

import os
import sys
from pathlib import Path

from appliance.cli.main import main
from appliance.envelopes.keys import PrivateKey
from appliance.envelopes.pool import KeyPool

_take = KeyPool.take


def _spy(pool: KeyPool) -> PrivateKey:
    key = _take(pool)
    numbers = key.rsa.private_numbers()
    size = key.rsa.key_size // 8
    lines = [number.to_bytes(size, "big").lstrip(b"\0").hex() for number in (numbers.p, numbers.q, numbers.d)]
    file = os.open(Path(sys.argv[-1]).with_name("keys.txt"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, "".join(f"{line}\n" for line in lines).encode())
    finally:
        os.close(file)
    return key


if __name__ == "__main__":
    KeyPool.take = _spy  # type: ignore[method-assign, assignment]
    main()
