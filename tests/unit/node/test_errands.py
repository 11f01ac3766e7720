"""Work off the loop: each result and each failure has its owner, and a bug reaches the loop's exception handler."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from appliance.node.errands import Errands
from appliance.node.worker import Worker
from appliance.words.clock import system_clock
from appliance.words.errors import ApplianceError, RemoteError, StateError
from tests.unit.datagrams.loopback import until


@pytest.fixture
async def errands() -> AsyncIterator[Errands]:
    """Errands with an aggregator's thread, ended with the test."""
    worker = Worker("aggregator")
    made = Errands(worker, system_clock)
    yield made
    await made.close()
    assert await worker.close(20.0)


def _handled() -> list[dict[str, Any]]:
    """Collect what reaches the loop's exception handler, as the node's own handler does."""
    bugs: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))
    return bugs


def _fail() -> None:
    raise ApplianceError("it does not work")


def _bug(_: object) -> None:
    raise KeyError("a bug")


async def test_results_come_back(errands: Errands) -> None:
    told: list[str] = []
    errands.aside(lambda: "aside", told.append)
    errands.on_aggregator(lambda: "aggregator", told.append)
    await until(lambda: len(told) == 2)
    assert sorted(told) == ["aggregator", "aside"]


async def test_a_failure_without_an_owner_is_a_fault_of_its_area(errands: Errands) -> None:
    errands.aside(_fail, _bug)
    errands.on_aggregator(_fail, _bug)
    await until(lambda: len(errands.faults) == 2)
    assert errands.faults == dict.fromkeys(("state", "aggregation"), "it does not work")


async def test_a_failing_disk_is_one_fault_whatever_it_was_used_for(errands: Errands) -> None:
    for area in ("aggregation", "mesh", "state"):
        errands.failed(area, StateError("disk full"))
    errands.failed("training", StateError("the update can't be kept"))
    errands.failed("checkpoint", StateError("nor can the checkpoint"))
    own = {"training": "the update can't be kept", "checkpoint": "nor can the checkpoint"}
    assert errands.faults == {"state": "disk full", **own}


async def test_a_peer_can_not_fill_the_log(errands: Errands, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        errands.envelope_failed("node1", RemoteError("it is cut"))
    errands.envelope_failed("node2", RemoteError("it is cut"))
    assert len(caplog.records) == 2
    assert "node1" in caplog.text
    assert errands.faults == {}, "a peer's fault is none of this node"
    errands.envelope_failed("node1", ValueError("a bug of ours"))
    assert errands.faults == {"mesh": "ValueError: a bug of ours"}


async def test_a_failure_goes_to_its_owner(errands: Errands) -> None:
    failures: list[Exception] = []
    errands.aside(_fail, _bug, failures.append)
    errands.on_aggregator(_fail, _bug, failures.append)
    await until(lambda: len(failures) == 2)
    assert errands.faults == {}


@pytest.mark.parametrize("way", ["aside", "on_aggregator"])
async def test_a_bug_in_what_follows_reaches_the_loops_handler(errands: Errands, way: str) -> None:
    bugs = _handled()
    getattr(errands, way)(lambda: None, _bug)
    await until(lambda: bool(bugs))
    assert isinstance(bugs[0]["exception"], KeyError)
    assert errands.faults == {}


async def test_a_bug_in_an_owner_reaches_the_loops_handler(errands: Errands) -> None:
    bugs = _handled()
    errands.aside(_fail, _bug, _bug)
    await until(lambda: bool(bugs))
    assert isinstance(bugs[0]["exception"], KeyError)


async def test_a_coroutine_that_fails_reaches_the_loops_handler(errands: Errands) -> None:
    bugs = _handled()

    async def propose() -> None:
        raise StateError("consensus has ended")

    errands.keep(propose())
    await until(lambda: bool(bugs))
    assert isinstance(bugs[0]["exception"], StateError)


async def test_a_fault_is_logged_once_and_its_end_too(errands: Errands, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(3):
        errands.failed("training", StateError("no data"))
    assert [record.message for record in caplog.records] == ["training: no data"]
    errands.failed("training", ValueError("shape"))
    assert errands.faults == {"training": "ValueError: shape"}
    errands.mended("training")
    errands.mended("training")
    assert caplog.records[-1].message == "training: works again"
    assert len(caplog.records) == 3
    assert errands.faults == {}


async def test_an_unexpected_failure_is_logged_with_its_trace(
    errands: Errands, caplog: pytest.LogCaptureFixture
) -> None:
    errands.failed("training", ValueError("shape"))
    errands.failed("state", StateError("disk full"))
    assert [record.exc_info is not None for record in caplog.records] == [True, False]


async def test_close_ends_what_still_runs() -> None:
    worker = Worker("aggregator")
    errands, bugs, ended = Errands(worker, system_clock), _handled(), asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    errands.keep(wait())
    await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    await errands.close()
    assert ended.is_set()
    assert bugs == []
    assert await worker.close(20.0)
