"""A thread that does jobs one after another and sleeps between them (paper: participant and aggregator)."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from appliance.node.scheduling import compute_in_background

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    work: Callable[[], T]
    done: Callable[[T], object]
    failed: Callable[[Exception], None]


class Worker:
    """A named thread with a queue. Results come back on the event loop; an idle worker uses no CPU."""

    def __init__(self, name: str, *, niceness: int = 0) -> None:
        """Start the thread.

        Args:
            niceness: above 0, the thread computes in the background, so that heartbeats go before training.
        """
        self._jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._niceness = niceness
        self._closed = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Jobs that wait."""
        return self._jobs.qsize()

    @property
    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    @property
    def busy_s(self) -> float:
        """How long the present job has run, in seconds; 0 when idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def submit(self, work: Callable[[], T], done: Callable[[T], object], failed: Callable[[Exception], None]) -> None:
        """Do ``work`` on the thread, then call ``done`` or ``failed`` on the event loop."""
        if not self._closed:
            self._jobs.put(_Job(work, done, failed))  # type: ignore[arg-type]  # the queue forgets each job's own T

    def tell(self, callback: Callable[[T], object], value: T) -> None:
        """Call back on the event loop; for work that has something to say before it is done. From any thread."""
        self._report(callback, value)

    async def close(self, timeout_s: float) -> bool:
        """Drop waiting jobs and end the thread; tell whether it ended in time."""
        self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        # Python's name for a thread stays in Python before 3.14; with this one, top -H and /proc show it too.
        with contextlib.suppress(OSError):
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(self._thread.name)
        if self._niceness:
            compute_in_background(self._niceness)
        while (job := self._jobs.get()) is not None:
            self._busy_since = time.monotonic()
            try:
                result = job.work()
            except Exception as error:  # a job's failure is its owner's to judge, never the thread's end
                self._report(job.failed, error)
            else:
                self._report(job.done, result)
                del result  # nor may the idle thread hold a model's bytes
            self._busy_since = None
            del job

    def _report(self, callback: Callable[[T], object], value: T) -> None:
        # The loop is gone only when the process is ending: nobody is left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._deliver, callback, value)

    def _deliver(self, callback: Callable[[T], object], value: T) -> None:
        if not self._closed:
            callback(value)
