"""What a node does when its disk is full: it says so, answers for it, and goes on when there is space again.

Not by ending: systemd would start it again every few seconds, give up after some, and an operator would have to.
"""

import asyncio
import contextlib
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from appliance.operator_api.server import unavailable_api
from appliance.storage.files import write_fully
from appliance.systemd.notify import Notifier
from appliance.words.errors import DiskFullError, StateError
from appliance.words.settings import Operator

PROBE_EVERY_S = 5.0
PROBE_BYTES = 8 * 2**20
"""Must fit before the node starts again: more than one model of the paper and the log's next entries."""

log = logging.getLogger(__name__)


async def run_while_space_lasts(
    run: Callable[[], Awaitable[None]],
    *,
    state: Path,
    operator: Operator,
    stop: asyncio.Event,
    notifier: Notifier,
    probe_every_s: float = PROBE_EVERY_S,
) -> None:
    """Run the node, and again each time that its disk was full and has space again, until ``stop`` is set."""
    while True:
        try:
            return await run()
        except DiskFullError as error:
            reason = str(error)
        log.error("%s; this node waits for space, and goes on by itself", reason)
        notifier.status(f"waiting: {reason}")
        # To systemd it has started: it would end a start that takes too long.
        notifier.ready()
        async with unavailable_api(operator, f"{reason}; this node waits for space, and goes on by itself"):
            await _wait(state, stop, notifier, probe_every_s)
        if stop.is_set():
            return None
        log.info("there is space on the disk again: starting")


async def _wait(state: Path, stop: asyncio.Event, notifier: Notifier, probe_every_s: float) -> None:
    while not stop.is_set() and not await asyncio.to_thread(has_space, state):
        notifier.alive()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(probe_every_s, notifier.watchdog_interval_s or probe_every_s)):
                await stop.wait()


def has_space(folder: Path) -> bool:
    """Tell whether a file of ``PROBE_BYTES`` fits: written and removed again, since a quota shows only so.

    Raises StateError if the folder can't be written for another reason.
    """
    try:
        with tempfile.TemporaryFile(prefix=".space.", dir=folder, buffering=0) as file:
            write_fully(file.fileno(), bytes(PROBE_BYTES))
            os.fsync(file.fileno())
    except OSError as error:
        if DiskFullError.is_told_by(error):
            return False
        raise StateError(f"can't write in {folder}: {error.strerror or error}") from error
    return True
