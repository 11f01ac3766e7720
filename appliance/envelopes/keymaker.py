"""The pool's child process: for each byte on standard input, one RSA key on standard output (see ``pool``).

The byte is the kind of key, ``LONG`` or ``SHORT``. Who takes a key is in the middle of something, such as the end of a
round, so an ordered key is made when nothing was ordered for a moment; but one that is ordered by a capital letter, and
all before it, at once.

A key is its kind, its length (4 bytes, big-endian) and its DER, PKCS #8, on a pipe that only parent and child hold. The
child ends when its input ends, so it never outlives its parent by more than one key.
"""

import os
import select
import signal
import sys
from collections import deque

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

NICENESS = 5
"""As training: heartbeats go first, and a round that waits for a key gets it (see ``pool``)."""
LONG, SHORT = b"l", b"s"
SHORT_BITS = 2048
REST_S = 1.0
_AT_ONCE = 4096


def main() -> None:
    """Make keys; long ones of the size (bits) given as the only argument."""
    bits = {LONG: int(sys.argv[1]), SHORT: SHORT_BITS}
    os.nice(NICENESS)
    # A Ctrl-C at a terminal reaches the whole group; only the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ordered: deque[bytes] = deque()
    rest_s = 0.0
    while True:
        came, _, _ = select.select([sys.stdin], [], [], rest_s if ordered else None)
        if came:
            orders = os.read(sys.stdin.fileno(), _AT_ONCE)
            if not orders:
                return
            ordered.extend(bytes([kind]) for kind in orders.lower())
            rest_s = REST_S if orders.islower() else 0.0
            continue
        kind = ordered.popleft()
        try:
            _make(kind, bits[kind])
        except BrokenPipeError:
            return
        rest_s = 0.0


def _make(kind: bytes, bits: int) -> None:
    der = rsa.generate_private_key(public_exponent=65537, key_size=bits).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    os.write(sys.stdout.fileno(), kind + len(der).to_bytes(4, "big") + der)


if __name__ == "__main__":
    main()
