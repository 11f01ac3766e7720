"""The two threads of the paper: in order, one at a time, asleep between their jobs."""

import asyncio
import gc
import os
import platform
import re
import threading
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.node import scheduling
from appliance.node.scheduling import SLICE_S
from appliance.node.worker import Worker
from tests.unit.datagrams.loopback import until

BOUND_S = 20.0


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    """A worker that ends with the test."""
    made = Worker("test")
    yield made
    assert await made.close(BOUND_S)


def _never(value: object) -> None:
    raise AssertionError(f"called with {value}")


async def test_jobs_are_done_in_order_on_its_own_thread_and_told_on_the_loop(worker: Worker) -> None:
    threads, told = set[str](), list[int]()

    def work(number: int) -> int:
        threads.add(threading.current_thread().name)
        return number

    def done(number: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(number)

    for number in range(50):
        worker.submit(lambda number=number: work(number), done, _never)  # type: ignore[misc]
    await until(lambda: len(told) == 50)
    assert told == list(range(50))
    assert threads == {"test"}


async def test_a_failure_goes_to_failed_and_the_next_job_is_done(worker: Worker) -> None:
    failures, told = list[Exception](), list[str]()

    def fail() -> str:
        raise ValueError("no data")

    worker.submit(fail, _never, failures.append)
    worker.submit(lambda: "next", told.append, _never)
    await until(lambda: bool(told))
    assert [str(failure) for failure in failures] == ["no data"]
    assert worker.is_alive


async def test_backlog_and_busy_show_what_is_under_way(worker: Worker) -> None:
    begun, go_on, told = threading.Event(), threading.Event(), list[bool]()

    def work() -> bool:
        begun.set()
        return go_on.wait(BOUND_S)

    assert (worker.backlog, worker.busy_s) == (0, 0.0)
    worker.submit(work, told.append, _never)
    worker.submit(lambda: True, told.append, _never)
    await until(begun.is_set)
    assert worker.backlog == 1
    await until(lambda: worker.busy_s > 0)
    go_on.set()
    await until(lambda: len(told) == 2)
    await until(lambda: worker.busy_s == 0)
    assert worker.backlog == 0


async def test_work_under_way_can_say_something_on_the_loop(worker: Worker) -> None:
    go_on, said, done = threading.Event(), list[threading.Thread](), list[bool]()

    def work() -> bool:
        worker.tell(lambda _: said.append(threading.current_thread()), None)
        return go_on.wait(BOUND_S)

    worker.submit(work, done.append, _never)
    await until(lambda: bool(said))
    assert said == [threading.main_thread()]
    assert done == []
    go_on.set()
    await until(lambda: done == [True])


async def test_close_drops_the_jobs_that_wait_and_tells_nobody() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go_on.wait(BOUND_S)

    worker = Worker("test")
    worker.submit(work, _never, _never)
    worker.submit(lambda: _never("a dropped job"), _never, _never)
    await until(begun.is_set)
    assert not await worker.close(0.01), "the job under way has not ended"
    worker.submit(lambda: _never("a job after close"), _never, _never)
    go_on.set()
    assert await worker.close(BOUND_S)
    assert not worker.is_alive
    # What the thread still reported is on the loop before this, and must tell nobody.
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)


async def test_an_idle_worker_uses_no_processor(worker: Worker) -> None:
    """Paper: the aggregator of a follower sleeps. While this thread is busy, the worker's clock must stand still."""
    told: list[int] = []
    worker.submit(lambda: 1, told.append, _never)
    await until(lambda: bool(told) and worker.busy_s == 0)
    assert worker._thread.ident is not None
    clock = time.pthread_getcpuclockid(worker._thread.ident)
    before, own = time.clock_gettime(clock), time.thread_time()
    while time.thread_time() - own < 0.2:
        pass
    assert time.clock_gettime(clock) - before < 0.005


async def test_an_idle_worker_holds_neither_the_job_nor_its_result(worker: Worker) -> None:
    class Model:
        pass

    results: list[weakref.ref[Model]] = []
    worker.submit(Model, lambda made: results.append(weakref.ref(made)), _never)
    await until(lambda: bool(results) and worker.busy_s == 0)
    gc.collect()
    await until(lambda: results[0]() is None)


@pytest.mark.parametrize("may_have_slices", [True, False])
async def test_niceness_is_added_to_the_processes_own(
    *, may_have_slices: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set to a fixed value it would be lower than that of a process under ``nice -n 10``: only root may do that.

    In the service the filter of system calls answers the wish for slices with an error.
    """
    if not may_have_slices:
        no_such_call = dict.fromkeys(scheduling._SCHED_SETATTR, 100_000)
        monkeypatch.setattr(scheduling, "_SCHED_SETATTR", no_such_call)
    told: list[int] = []
    mine = os.getpriority(os.PRIO_PROCESS, 0)
    worker = Worker("nice", niceness=5)
    worker.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), told.append, _never)
    await until(lambda: bool(told))
    assert told == [min(mine + 5, 19)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == mine
    assert await worker.close(BOUND_S)


def _slice_s() -> float | None:
    """Return the calling thread's slice, as the kernel shows it; None if this kernel does not."""
    shown = Path(f"/proc/self/task/{threading.get_native_id()}/sched")
    found = re.search(r"^se\.slice *: *(\d+)$", shown.read_text() if shown.exists() else "", re.MULTILINE)
    return None if found is None else int(found[1]) / 1e9


@pytest.mark.skipif(
    tuple(map(int, platform.release().split(".")[:2])) < (6, 12) or _slice_s() is None,
    reason="this kernel has no slices of a thread's own, or does not show them",
)
async def test_who_computes_in_the_background_has_long_slices_and_the_others_do_not() -> None:
    async def slice_of(niceness: int) -> float:
        told: list[float | None] = []
        worker = Worker("slices", niceness=niceness)
        worker.submit(_slice_s, told.append, _never)
        await until(lambda: bool(told))
        assert await worker.close(BOUND_S)
        assert told[0] is not None
        return told[0]

    assert await slice_of(5) == SLICE_S
    assert await slice_of(0) < SLICE_S


async def test_who_computes_in_the_background_keeps_the_policy_that_the_operator_chose() -> None:
    told: list[int] = []
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        worker = Worker("batch", niceness=5)  # a thread inherits the policy of who starts it
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    worker.submit(lambda: os.sched_getscheduler(0), told.append, _never)
    await until(lambda: bool(told))
    assert told == [os.SCHED_BATCH]
    assert await worker.close(BOUND_S)
