"""A node that was away while the others' logs began anew comes back by a snapshot over the real mesh.

Three whole nodes on one event loop: a snapshot is made after 4,096 entries, too many for a test, and no configuration
key is needed by anybody but this test.
"""

import asyncio
import contextlib
import functools
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.datagrams.driver import ConsensusDriver
from appliance.node import wiring
from appliance.node.cluster import create_cluster
from appliance.words.ids import short
from tests.process.cluster import NodeProcess, plan
from tests.process.waiting import until

COMPACT_AFTER = 6
WITHIN_S = 90.0


@contextlib.asynccontextmanager
async def running(nodes: list[NodeProcess]) -> AsyncIterator[None]:
    """Run whole nodes on this loop, and stop them as SIGTERM would."""
    stops = [asyncio.Event() for _ in nodes]
    tasks = [asyncio.create_task(wiring.run(each.config, stop)) for each, stop in zip(nodes, stops, strict=True)]
    try:
        yield
    finally:
        for stop in stops:
            stop.set()
        await asyncio.gather(*tasks)


async def reaches(round_: int, nodes: list[NodeProcess]) -> None:
    """Wait until all of these know a model of this round; beside the loop that they run on."""

    def reached() -> bool:
        return all((models := node.lineage()) and models[-1].round >= round_ for node in nodes)

    await asyncio.to_thread(until, reached, f"round {round_}", within_s=WITHIN_S)


async def trains(node: NodeProcess) -> None:
    """Wait until the node has finished an update."""

    def trained() -> bool:
        status = node.status()
        return status is not None and status.update is not None

    await asyncio.to_thread(until, trained, "a finished update", within_s=WITHIN_S)


async def test_a_snapshot_travels_over_the_mesh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "appliance.node.conductor")
    caplog.set_level(logging.INFO, "appliance.node.participating")
    monkeypatch.setattr(wiring, "ConsensusDriver", functools.partial(ConsensusDriver, compact_after=COMPACT_AFTER))
    first, second, away = (NodeProcess(file) for file in create_cluster(tmp_path / "cluster", plan(3)))
    async with running([first, second]):
        async with running([away]):
            await reaches(1, [first, second, away])
        before = (await asyncio.to_thread(first.lineage))[-1].round
        await reaches(before + 3 * COMPACT_AFTER, [first, second])
        caplog.clear()
        async with running([away]):
            await reaches(before + 3 * COMPACT_AFTER, [away])
            await trains(away)
            known, whole = await asyncio.to_thread(away.lineage), await asyncio.to_thread(first.lineage)
    assert "for a snapshot of consensus: this node is far behind" in caplog.text
    assert "a snapshot brings the lineage to round" in caplog.text
    assert [model.digest for model in known] == [model.digest for model in whole[: len(known)]]
    assert [model.round for model in known] == list(range(len(known)))
    asked = re.findall(r"asking the leader for model (\w+)", caplog.text)
    missed = {short(model.digest) for model in whole[before + 1 : before + 3 * COMPACT_AFTER]}
    assert asked, "it asks for what is trained on"
    assert not missed & set(asked), "and for none of the models in between"
