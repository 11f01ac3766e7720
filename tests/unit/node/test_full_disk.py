"""A full disk: the node waits, says so to systemd, the log and whoever asks, and goes on when there is space."""

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from appliance.node import full_disk
from appliance.node.full_disk import has_space, run_while_space_lasts
from appliance.storage.files import state_error
from appliance.systemd.notify import Notifier
from appliance.words.errors import DiskFullError, StateError
from appliance.words.settings import Operator
from tests.unit.operator_api.fake import free_port

FULL = state_error("write", Path("/state/log"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


class _Said(Notifier):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.watchdog_interval_s = 0.01

    def _notify(self, state: str) -> None:
        self.said.append(state)


async def _answer(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the other side of a socket sets no event
            await asyncio.sleep(0.01)


async def test_it_waits_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    runs: list[int] = []
    space = [False]
    monkeypatch.setattr(full_disk, "has_space", lambda _: space[0])
    notifier, port, stop = _Said(), free_port(), asyncio.Event()

    async def run() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise FULL

    settings = Operator(port=port)
    task = asyncio.create_task(
        run_while_space_lasts(run, state=tmp_path, operator=settings, stop=stop, notifier=notifier)
    )
    await _until(lambda: notifier.said.count("WATCHDOG=1") > 2)
    assert notifier.said[:2] == ["STATUS=waiting: can't write /state/log: the disk is full; free some space", "READY=1"]
    for path in ("/v1/status", "/healthz", "/"):
        code, text = await _answer(port, path)
        assert code == 503
        assert text.startswith("can't write /state/log: the disk is full; free some space; this node waits")
    assert runs == [0]
    space[0] = True
    await asyncio.wait_for(task, 10)
    assert runs == [0, 1]
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


async def test_it_stops_while_it_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_disk, "has_space", lambda _: False)
    notifier, stop, runs = _Said(), asyncio.Event(), []

    async def run() -> None:
        runs.append(1)
        raise FULL

    settings = Operator(port=free_port())
    task = asyncio.create_task(
        run_while_space_lasts(run, state=tmp_path, operator=settings, stop=stop, notifier=notifier)
    )
    await _until(lambda: "READY=1" in notifier.said)
    stop.set()
    await asyncio.wait_for(task, 10)
    assert runs == [1]


async def test_any_other_fault_of_the_disk_ends_the_node(tmp_path: Path) -> None:
    async def run() -> None:
        raise state_error("write", Path("/state/log"), OSError(errno.EIO, "I/O error"))

    with pytest.raises(StateError, match="the disk reports an error"):
        await run_while_space_lasts(run, state=tmp_path, operator=Operator(), stop=asyncio.Event(), notifier=Notifier())


def test_the_probe_tells_space_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_space(tmp_path)
    monkeypatch.setattr(full_disk, "write_fully", _no_space)
    assert not has_space(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StateError, match="can't write in"):
        has_space(tmp_path / "none")


def _no_space(handle: int, content: bytes) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)])
def test_a_full_disk_is_an_error_of_its_own(number: int, full: bool) -> None:
    assert isinstance(state_error("write", Path("x"), OSError(number, "x")), DiskFullError) is full
