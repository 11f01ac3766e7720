"""What runs nodes on this machine ends them when it is interrupted, and says so."""

import contextlib
import signal
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Clean up on Ctrl-C and SIGTERM alike, and say so in one line; exit as if ended by Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("p2pfl-node: interrupted; all nodes were ended\n")
        raise SystemExit(128 + signal.SIGINT) from None
    finally:
        signal.signal(signal.SIGTERM, before)
