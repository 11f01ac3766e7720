"""Free ports on loopback for a whole cluster."""

import contextlib
import random
import socket

from appliance.words.errors import OperatorError

FIRST_PORT, LAST_PORT, STEP = 17_000, 32_000, 100
PORTS_PER_NODE = 10


def free_base_port(nodes: int, host: str = "127.0.0.1") -> int:
    """Return a base port from which every node of a cluster finds its ports free.

    A random one: who looks at the same time must not find the same, which is taken only when the nodes have started.

    Raises:
        OperatorError: there is none.
    """
    bases = list(range(FIRST_PORT, LAST_PORT, STEP * (1 + nodes * PORTS_PER_NODE // STEP)))
    random.SystemRandom().shuffle(bases)
    for base in bases:
        ports = [base + PORTS_PER_NODE * node + offset for node in range(nodes) for offset in range(3)]
        if all(_is_free(host, port) for port in ports):
            return base
    raise OperatorError(f"no free ports for {nodes} nodes between {FIRST_PORT} and {LAST_PORT} on {host}")


def _is_free(host: str, port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with contextlib.closing(socket.socket(socket.AF_INET, kind)) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
