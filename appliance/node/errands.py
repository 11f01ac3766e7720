"""Work off the event loop, with somebody who takes each result and each failure."""

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import TypeVar

from appliance.mesh.throttle import Throttle
from appliance.node.worker import Worker
from appliance.words.clock import Clock
from appliance.words.errors import ApplianceError, RemoteError, StateError
from appliance.words.ids import NodeName

T = TypeVar("T")

REFUSALS_EVERY_S = 60.0

log = logging.getLogger(__name__)


class Errands:
    """Sends work to the aggregator's thread or to a spare one, and owns what runs meanwhile.

    Attributes:
        faults: what is wrong on this node itself, by area; shown in ``status`` until it is mended.
    """

    def __init__(self, aggregator: Worker, clock: Clock) -> None:
        """``aggregator``: the thread whose work must stay in order."""
        self._aggregator = aggregator
        self._clock = clock
        self._refusals = Throttle(REFUSALS_EVERY_S)
        self._tasks: set[asyncio.Task[None]] = set()
        self.faults: dict[str, str] = {}

    def on_aggregator(
        self, work: Callable[[], T], done: Callable[[T], object], failed: Callable[[Exception], None] | None = None
    ) -> None:
        """Do work on the aggregator's thread, after what was sent there before."""
        self._aggregator.submit(work, done, failed or functools.partial(self.failed, "aggregation"))

    def aside(
        self, work: Callable[[], T], done: Callable[[T], object], failed: Callable[[Exception], None] | None = None
    ) -> None:
        """Do small work on a spare thread: it must not wait behind training."""
        self.keep(self._aside(work, done, failed or functools.partial(self.failed, "state")))

    async def _aside(
        self, work: Callable[[], T], done: Callable[[T], object], failed: Callable[[Exception], None]
    ) -> None:
        try:
            result = await asyncio.to_thread(work)
        except Exception as error:  # a failure is judged by its owner, and never ends the node
            failed(error)
        else:
            done(result)

    def keep(self, work: Coroutine[object, object, None]) -> None:
        """Run a coroutine to its end; an exception that it raises is a bug, and ends the node."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            loop = asyncio.get_running_loop()
            loop.call_exception_handler({"message": "work beside the threads failed", "exception": error})

    def failed(self, area: str, error: Exception) -> None:
        """Note what is wrong on this node: in the log once, in ``status`` until it is mended.

        A disk that fails is one fault whatever it was used for, and is mended when it next holds a model; but for
        training, whose update and whose checkpoint are files of their own.
        """
        if isinstance(error, StateError) and area not in {"training", "checkpoint"}:
            area = "state"
        expected = isinstance(error, ApplianceError)
        text = str(error) if expected else f"{type(error).__name__}: {error}"
        if self.faults.get(area) != text:
            self.faults[area] = text
            log.error("%s: %s", area, text, exc_info=None if expected else error)

    def refused(self, what: str, reason: str) -> None:
        """Log what came and why it is refused, each reason once a minute: a peer must not fill the log."""
        if self._refusals.allows((what, reason), self._clock()):
            log.warning("%s is refused: %s (said at most once a minute)", what, reason)

    def envelope_failed(self, peer: NodeName, error: Exception) -> None:
        """An envelope could not be opened: its sender's fault, or this node's own."""
        if isinstance(error, RemoteError):
            self.refused(f"an envelope that {peer} delivered", error.reason)
        else:
            self.failed("mesh", error)

    def mended(self, area: str) -> None:
        """What was wrong in this area works again."""
        if self.faults.pop(area, None) is not None:
            log.info("%s: works again", area)

    async def close(self) -> None:
        """End what still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
