"""What the event loop reports: a bug ends the node, what the system reports does not."""

import asyncio
import errno
import logging

import pytest

from appliance.node.wiring import stop_on_bugs
from appliance.words.clock import system_clock


async def test_a_bug_ends_the_node(caplog: pytest.LogCaptureFixture) -> None:
    stop, bugs = asyncio.Event(), list[Exception]()
    stop_on_bugs(stop, bugs, system_clock)
    bug = ValueError("nobody expected it")
    asyncio.get_running_loop().call_exception_handler({"message": "a task failed", "exception": bug})
    assert stop.is_set()
    assert bugs == [bug]
    assert "a bug ends this node" in caplog.text


async def test_a_stranger_who_uses_up_all_descriptors_does_not_end_the_node(caplog: pytest.LogCaptureFixture) -> None:
    stop, bugs = asyncio.Event(), list[Exception]()
    stop_on_bugs(stop, bugs, system_clock)
    for _ in range(3):  # asyncio says it again each second
        error = OSError(errno.EMFILE, "Too many open files")
        message = "socket.accept() out of system resource"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
    assert not stop.is_set()
    assert bugs == []
    said = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert "Too many open files" in said[0].getMessage()
