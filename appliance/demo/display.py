"""How the demonstration looks: a live table on a terminal, plain lines elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from appliance.local import paper
from appliance.local.timeline import LETTERS, Row
from appliance.operator_api.views import Status, UpdateView
from appliance.words.ids import NodeName
from appliance.words.models import GlobalModel

_STYLES = {"leader": "bold green", "follower": "", "candidate": "yellow", "dead": "red"}


class ConsoleDisplay:
    """Shows the story on a console; a context manager, live only on a terminal."""

    def __init__(self, console: Console) -> None:
        """``console``: where to; colour and movement only if it is a terminal."""
        self._console = console
        self._started = time.monotonic()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print an event with its time."""
        self._console.print(f"{time.monotonic() - self._started:6.1f} s  {text}", highlight=False, soft_wrap=True)

    def show(self, states: dict[NodeName, Status | None]) -> None:
        """Redraw the table of nodes."""
        if self._live is None:
            return
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("node", "role", "term", "round", "accuracy", "training", "peers"):
            table.add_column(heading, no_wrap=True)
        for name, state in states.items():
            table.add_row(*_cells(name, state))
        self._live.update(table, refresh=True)


def _cells(name: NodeName, state: Status | None) -> tuple[Text | ProgressBar, ...]:
    if state is None:
        return (Text(name, style="red"), Text("not answering", style="red"), *[Text("")] * 5)
    accuracy = "" if state.model is None else f"{state.model.accuracy:.2%}"
    training = Text("") if state.progress is None else ProgressBar(total=1.0, completed=state.progress, width=14)
    up = sum(condition == "up" for condition in state.peers.values())
    return (
        Text(name, style="bold"),
        Text(state.role, style=_STYLES[state.role]),
        Text(str(state.term)),
        Text(str(state.round)),
        Text(accuracy),
        training,
        Text(f"{up}/{len(state.peers)} up"),
    )


def table_one(
    start: GlobalModel, updates: dict[NodeName, UpdateView], aggregated: GlobalModel, *, is_mnist: bool
) -> Table:
    """Return the paper's Table I for one round: each participant before, the global model after."""
    table = Table(box=SIMPLE_HEAD, title=f"Table I: round {aggregated.round}", title_justify="left")
    table.add_column("model")
    for heading in ("samples", "accuracy", "loss", "paper (MNIST)"):
        table.add_column(heading, justify="right")
    table.add_row(
        "global, at the start", "", f"{start.accuracy:.2%}", f"{start.loss:.4f}", f"{paper.INITIAL_ACCURACY:.2%}"
    )
    for name, update in sorted(updates.items()):
        table.add_row(name, str(update.samples), f"{update.accuracy:.2%}", f"{update.loss:.4f}", "")
    mean_accuracy = sum(update.accuracy for update in updates.values()) / len(updates)
    mean_loss = sum(update.loss for update in updates.values()) / len(updates)
    table.add_row(
        "participants, mean", "", f"{mean_accuracy:.2%}", f"{mean_loss:.4f}", f"{paper.PARTICIPANTS_MEAN:.2%}"
    )
    table.add_row(
        f"global, version {aggregated.version}",
        str(aggregated.samples),
        f"{aggregated.accuracy:.2%}",
        f"{aggregated.loss:.4f}",
        f"{paper.AGGREGATED_ACCURACY:.2%}",
        style="bold",
    )
    if not is_mnist:
        table.caption = "Embedded digits, not MNIST: compare the shape, not the figures."
    return table


def table_two(rows: list[Row]) -> Table:
    """Return the paper's Table II: which node is follower (F), candidate (C) or leader (L) after each step."""
    table = Table(box=SIMPLE_HEAD, title="Table II: F follower, C candidate, L leader, - dead", title_justify="left")
    table.add_column("time", justify="right")
    table.add_column("what happened")
    table.add_column("term", justify="right")
    for name in rows[0].states:
        table.add_column(name, justify="center")
    leader = LETTERS["leader"]
    for row in rows:
        states = [Text(state, style="bold green" if state == leader else "") for state in row.states.values()]
        table.add_row(f"{row.after_s:.1f} s", row.what, str(row.term), *states)
    return table
