"""How far an experiment is: plain lines that stay, and on a terminal a bar below them that moves."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

BAR_WIDTH = 20


class Reporter:
    """Says what happens on a console; a context manager. Colour and movement only if it is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(BAR_WIDTH),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """Print an event with its time."""
        line = f"{time.monotonic() - self._started:6.1f} s  {text}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def step(self, what: str, done: int, total: int) -> None:
        """Show what is done now, and how many of all steps are behind it."""
        self._progress.update(self._task, description=what, completed=done, total=total)
