"""Fixtures of the tests of the mesh."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.mesh.town import Town
from tests.unit.mesh.wire import Wire


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


@pytest.fixture
async def wires() -> AsyncIterator[list[Wire]]:
    """All that is in here is closed when the test ends."""
    opened: list[Wire] = []
    yield opened
    for wire in opened:
        wire.close()
    await asyncio.gather(*(wire.writer.wait_closed() for wire in opened), return_exceptions=True)
