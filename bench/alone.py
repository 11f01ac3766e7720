"""A place of its own for a benchmark that starts processes: its own loopback, its own process ids.

The benchmark runs again in fresh namespaces of the network and of processes (``unshare``; without root where the kernel
lets users have namespaces). There the loopback interface carries nothing but what is measured, every process but the
benchmark belongs to what is measured, and all of them end when the benchmark ends, however it ends: the kernel kills a
process namespace with its first process.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

from appliance.words.errors import OperatorError

_COUNTERS = Path("/proc/self/net/dev")
_INSIDE = "P2PFL_BENCH_INSIDE"
_UNSHARE = ("unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_GONE_WITHIN_S = 10.0


def is_inside() -> bool:
    """Tell whether this process is the first one of such a place."""
    return os.environ.get(_INSIDE) == "yes" and os.getpid() == 1


def run_again(module: str) -> int:
    """Run ``python -m module`` with this program's arguments in a place of its own; return its exit code.

    Files that it makes in the folder for temporary files are removed at the end.

    Raises OperatorError if this machine has no namespaces for us.
    """
    if subprocess.run([*_UNSHARE, "true"], check=False, capture_output=True).returncode != 0:
        raise OperatorError(f"this benchmark needs namespaces of its own, and `{' '.join(_UNSHARE)} true` fails here")
    again = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-m", module, *sys.argv[1:]]
    with tempfile.TemporaryDirectory(prefix="p2pfl-bench-") as folder:
        environment = {**os.environ, _INSIDE: "yes", "TMPDIR": folder}
        # Its standard input tells it when this process ends: see end_with_the_outside.
        with subprocess.Popen([*_UNSHARE, *again], env=environment, stdin=subprocess.PIPE) as inside:
            try:
                return inside.wait()
            finally:
                inside.kill()


def exit_when_terminated() -> None:
    """Take SIGTERM for an exit like any other: what is open is closed, what was started is ended."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, leave)


def end_with_the_outside() -> None:
    """End this place as soon as the process that made it has ended, by kill -9 too. To be called first inside."""

    def watch() -> None:
        while os.read(0, 1):  # nobody writes: it returns at the end
            pass
        os._exit(1)

    threading.Thread(target=watch, name="outside", daemon=True).start()


def loopback_bytes() -> int:
    """Return all that this place's loopback has carried: all bytes of all packets, with their headers."""
    columns = next(line for line in _COUNTERS.read_text().splitlines() if line.strip().startswith("lo:")).split()
    return int(columns[9])


def others() -> list[int]:
    """Return the ids of all processes here but this one."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and entry.name != "1"]


def kill_others() -> None:
    """Kill every process here but this one, by its id, until none is left. Inside only."""
    if not is_inside():
        raise RuntimeError("only inside, where all processes are the benchmark's own")
    end = time.monotonic() + _GONE_WITHIN_S
    while (left := others()) and time.monotonic() < end:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        _reap()
        time.sleep(0.02)
    if left:
        raise OperatorError(f"processes {left} can't be killed")


def _reap() -> None:
    """Take note of ended processes: the first process of a namespace inherits all orphans."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@dataclass(frozen=True, slots=True)
class Usage:
    """Memory of several processes together, in MB.

    Attributes:
        pss: proportional set size: a page that n processes share counts a n-th for each. What the machine is short of.
        rss: resident set size, shared pages counted by each.
    """

    pss: float
    rss: float


def memory() -> Usage:
    """Return what all processes here but this one hold now."""
    pss = rss = 0
    for process in others():
        with contextlib.suppress(OSError):  # it has ended
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    pss += int(line.split()[1])
                elif line.startswith("Rss:"):
                    rss += int(line.split()[1])
    return Usage(pss * 1024 / 1e6, rss * 1024 / 1e6)


class MemoryWatch:
    """Looks at the memory of all processes here each second, and remembers the most."""

    def __init__(self, every_s: float = 1.0) -> None:
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self.peak = Usage(0.0, 0.0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        ended = False
        while not ended:  # and once at the end: all of it may be shorter than the pause
            ended = self._ended.wait(self._every_s)
            now = memory()
            self.peak = Usage(max(self.peak.pss, now.pss), max(self.peak.rss, now.rss))


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Kill what still runs here when the context ends, however it ends."""
    try:
        yield
    finally:
        kill_others()


def load() -> float:
    """Return the machine's load average over a minute: all of it, what others run too."""
    return os.getloadavg()[0]
