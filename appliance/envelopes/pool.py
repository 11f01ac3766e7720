"""RSA keys made ahead, so that no key is made on a round's path.

The keys are made by a child process with a lower priority, not by a thread: a thread of low priority still has to
take the interpreter's lock to hand its key over, and on a busy machine it is then not scheduled while it holds the
lock. Measured with four busy processes on two cores: the main thread of the node stood still for 540 ms, longer than
an election timeout. A child's priority concerns nobody else.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from types import TracebackType
from typing import IO, Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from appliance.envelopes import keymaker
from appliance.envelopes.keymaker import LONG, SHORT
from appliance.envelopes.keys import REPLY_SECRET_BYTES, PrivateKey, Suite, private_key
from appliance.words.errors import ApplianceError

_log = logging.getLogger(__name__)
_RESTART_S = 2.0
WAIT_S = 60.0
_CLOSE_S = 5.0
_LOW = {LONG: 0, SHORT: 3}
"""With so many keys or fewer, the next can't wait."""
_LONG_KEYS = 2
"""A leader takes one for many rounds."""


class KeyPool:
    """Keeps keys ready; a context manager. Its methods may be called from any thread.

    **Long keys**, of ``bits``, guard by themselves what is sealed to them. **Short keys**, of 2048 bits, live for one
    round or one answer, and nothing rests on them alone: an answer is sealed to a secret besides, which came in the
    envelope that it answers; a token key guards no secret at all, and RFC 9578 gives such tokens this size. Each round
    takes one from every node, and a short one costs a fourth. ``size`` short ones are kept ready.

    No key is given twice. From an empty pool one waits for the next. How long that takes on a busy machine depends on
    the child's niceness: with four busy processes on two cores, and RSA-3072, a key took 1.2 s (at worst 2.6) with 5,
    4.6 s (11.3) with 10, and with 19 none came in a minute.

    Attributes:
        longest_wait_s: how long somebody had to wait for a key, at most, since the start.
    """

    def __init__(self, size: int, bits: int, suite: Suite = "rsa") -> None:
        self.longest_wait_s = 0.0
        self._bits = bits
        self._suite = suite
        self._sizes = {LONG: _LONG_KEYS, SHORT: size}
        self._keys: dict[bytes, deque[RSAPrivateKey]] = {kind: deque() for kind in self._sizes}
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
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
        """How many short keys are ready."""
        return len(self._keys[SHORT])

    def take(self) -> PrivateKey:
        """Return a long key that nobody else gets; waits for one if none is ready. Not for the event loop.

        Raises:
            ApplianceError: none came in a minute, or the pool is closed.
        """
        return private_key(self._take(LONG), self._suite)

    def take_reply_key(self) -> PrivateKey:
        """Return a short key for one answer, with a fresh secret that the answer takes too; otherwise as ``take``."""
        return private_key(self._take(SHORT), self._suite, os.urandom(REPLY_SECRET_BYTES))

    def take_token_key(self) -> RSAPrivateKey:
        """Return a short key for the tokens of one round; otherwise as ``take``."""
        return self._take(SHORT)

    def _take(self, kind: bytes) -> RSAPrivateKey:
        keys = self._keys[kind]
        began = time.monotonic()
        with self._filled:
            self._order(kind.upper() if len(keys) <= _LOW[kind] else kind)
            came = self._filled.wait_for(lambda: keys or self._closed.is_set(), WAIT_S)
            self.longest_wait_s = max(self.longest_wait_s, time.monotonic() - began)
            if not came or not keys:
                raise ApplianceError(f"the key pool made no key in {WAIT_S:g} s: this machine is too busy")
            return keys.popleft()

    def close(self) -> None:
        """End the child at once and drop all keys."""
        self._closed.set()
        with self._lock:
            if self._child is not None:
                self._child.kill()
            for keys in self._keys.values():
                keys.clear()
            self._filled.notify_all()
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
            for kind, size in self._sizes.items():
                self._order(kind.upper() * (size - len(self._keys[kind])))
        with child:
            assert child.stdout is not None  # noqa: S101 - for the type checker: it was started with a pipe
            while (made := _read_key(child.stdout)) is not None:
                kind, der = made
                # Our own child made it a moment ago: checking its primes again would cost as much as many seals.
                key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=True)
                with self._lock:
                    if isinstance(key, RSAPrivateKey) and not self._closed.is_set():
                        self._keys[kind].append(key)
                        self._filled.notify_all()  # who waits for another kind goes on waiting
        with self._lock:
            self._child = None

    def _order(self, kinds: bytes) -> None:
        """Ask the child for a key for each byte (see ``keymaker``); the caller holds the lock.

        A child that is gone ``_run`` replaces.
        """
        if self._child is not None and self._child.stdin is not None:
            try:
                self._child.stdin.write(kinds)
            except OSError:
                _log.debug("the key pool's child process is gone")


def _start_child(bits: int) -> subprocess.Popen[bytes]:
    # By its file and with -P: the child imports nothing of ours, and nothing from the current folder.
    command = [sys.executable, "-P", keymaker.__file__, str(bits)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: S603


def _read_key(source: IO[bytes]) -> tuple[bytes, bytes] | None:
    """Return one key's kind and DER; None when the child ended."""
    kind, length = _read_exactly(source, 1), _read_exactly(source, 4)
    der = None if length is None else _read_exactly(source, int.from_bytes(length, "big"))
    return None if kind is None or der is None else (kind, der)


def _read_exactly(source: IO[bytes], count: int) -> bytes | None:
    content = b""
    while len(content) < count:
        part = source.read(count - len(content))
        if not part:
            return None
        content += part
    return content
