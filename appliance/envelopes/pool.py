"""RSA keys made ahead, so that no key is made on a round's path.

The keys are made by a child process with the lowest priority, not by a thread: a thread of low priority still has to
take the interpreter's lock to hand its key over, and on a busy machine it is then not scheduled while it holds the
lock. Measured with four busy processes on two cores: the main thread of the node stood still for 540 ms, longer than
an election timeout. A child's priority concerns nobody else.
"""

import logging
import subprocess
import sys
import threading
from collections import deque
from types import TracebackType
from typing import IO, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from appliance.envelopes import keymaker

_log = logging.getLogger(__name__)
_RESTART_S = 30.0
_CLOSE_S = 5.0


class KeyPool:
    """Keeps ``size`` keys of ``bits`` ready; a context manager. Its methods may be called from any thread.

    No key is given twice. An empty pool makes one in the caller's thread, at the caller's priority: on a busy machine
    the child may get no processor for many seconds, and a round must not wait for it.
    """

    def __init__(self, size: int, bits: int) -> None:
        self._size = size
        self._bits = bits
        self._keys: deque[RSAPrivateKey] = deque()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="key-pool", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def level(self) -> int:
        """How many keys are ready."""
        return len(self._keys)

    def take(self) -> RSAPrivateKey:
        """Return a key that nobody else gets. Blocks while one is made (RSA-3072: about 0.15 s) if none is ready."""
        with self._lock:
            key = self._keys.popleft() if self._keys else None
            if key is not None:
                self._order(1)
        return key or rsa.generate_private_key(public_exponent=65537, key_size=self._bits)

    def close(self) -> None:
        """End the child at once and drop all keys."""
        self._closed.set()
        with self._lock:
            if self._child is not None:
                self._child.kill()
            self._keys.clear()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._fill_from_a_child()
            if not self._closed.is_set():
                _log.warning("the key pool's child process ended; the next starts in %g s", _RESTART_S)
                self._closed.wait(_RESTART_S)

    def _fill_from_a_child(self) -> None:
        """Start a child, order what is missing and take in keys until the child ends."""
        with self._lock:
            if self._closed.is_set():
                return
            child = self._child = _start_child(self._bits)
            self._order(self._size - len(self._keys))
        with child:
            assert child.stdout is not None  # noqa: S101 - for the type checker: it was started with a pipe
            while (der := _read_key(child.stdout)) is not None:
                # Our own child made it a moment ago: checking its primes again would cost as much as many seals.
                key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
                with self._lock:
                    if isinstance(key, RSAPrivateKey) and not self._closed.is_set():
                        self._keys.append(key)
        with self._lock:
            self._child = None

    def _order(self, count: int) -> None:
        """Ask the child for more keys; the caller holds the lock. A child that is gone is replaced by ``_run``."""
        if self._child is not None and self._child.stdin is not None:
            try:
                self._child.stdin.write(b"k" * count)
            except OSError:
                _log.debug("the key pool's child process is gone")


def _start_child(bits: int) -> subprocess.Popen[bytes]:
    # By its file and with -P: the child imports nothing of ours, and nothing from the current folder.
    command = [sys.executable, "-P", keymaker.__file__, str(bits)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: S603


def _read_key(source: IO[bytes]) -> bytes | None:
    """Return one key's DER; None when the child ended."""
    length = _read_exactly(source, 4)
    return None if length is None else _read_exactly(source, int.from_bytes(length, "big"))


def _read_exactly(source: IO[bytes], count: int) -> bytes | None:
    content = b""
    while len(content) < count:
        part = source.read(count - len(content))
        if not part:
            return None
        content += part
    return content
