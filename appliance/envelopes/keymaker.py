"""The pool's child process: for each byte on standard input, one RSA key on standard output (see ``pool``).

A key is its length (4 bytes, big-endian) and its DER, PKCS #8, on a pipe that only parent and child hold. The child
ends when its input ends, so it never outlives its parent by more than one key.
"""

import os
import signal
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

NICENESS = 5
"""As training: heartbeats go first, and a round that waits for a key gets it (see ``pool``)."""


def main() -> None:
    """Make keys of the size (bits) given as the only argument."""
    bits = int(sys.argv[1])
    os.nice(NICENESS)
    # A Ctrl-C at a terminal reaches the whole group; only the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.read(sys.stdin.fileno(), 1):
        der = rsa.generate_private_key(public_exponent=65537, key_size=bits).private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            os.write(sys.stdout.fileno(), len(der).to_bytes(4, "big") + der)
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
