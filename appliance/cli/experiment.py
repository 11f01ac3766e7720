"""``p2pfl-node experiment``: the paper's experiments, each on real nodes on this machine."""

import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console

from appliance import __version__
from appliance.cli.init import ImageSource
from appliance.experiment import report
from appliance.experiment.failover import failover
from appliance.experiment.laboratory import Laboratory
from appliance.experiment.learning_rate import learning_rate
from appliance.experiment.progress import Reporter
from appliance.experiment.result import Result
from appliance.experiment.rotation import rotation
from appliance.experiment.table_one import table_one
from appliance.experiment.table_two import table_two
from appliance.local.interruption import interruptible
from appliance.words.settings import Data

Run = Callable[[Laboratory], Result]

DIGITS_INSTEAD = "data: the embedded digits, not MNIST (for that: --data mnist:PATH)"

data_option = click.option(
    "--data", type=ImageSource(), help="Where the nodes' data is from.  [default: the embedded digits]"
)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("results"),
    show_default=True,
    help="Folder for JSON, CSV, report and plots.",
)


@click.group(short_help="Run the paper's experiments on real nodes.")
def experiment() -> None:
    """Run the paper's experiments, each on real node processes on this machine.

    Results go to a folder: all that was measured as JSON and CSV, a report in Markdown, and plots as PNG and SVG if
    matplotlib is installed (pip install 'p2pfl-node[reports]').
    """


@experiment.command("table1", short_help="Table I: participants, and the model aggregated from them.")
@data_option
@click.option("--seeds", type=click.IntRange(1, 100), default=5, show_default=True, help="How often, with other seeds.")
@out_option
def table1(*, data: tuple[str, Path | None] | None, seeds: int, out: Path) -> None:
    """Table I: loss and accuracy of each participant, and of the global model aggregated from them."""
    _perform(data, out, lambda laboratory: table_one(laboratory, seeds))


@experiment.command("learning-rate", short_help="Figures 5 and 6: loss and accuracy against the learning rate.")
@data_option
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="How many, at each rate.")
@out_option
def sweep(*, data: tuple[str, Path | None] | None, rounds: int, out: Path) -> None:
    """Figures 5 and 6: loss and accuracy of the global model against Adam's learning rate, from 1e-5 to 1e-1."""
    _perform(data, out, lambda laboratory: learning_rate(laboratory, rounds))


@experiment.command("table2", short_help="Table II: follower, candidate or leader, step by step.")
@data_option
@out_option
def table2(*, data: tuple[str, Path | None] | None, out: Path) -> None:
    """Table II: what each node is at the start, at an election, a resignation and a re-election."""
    _perform(data, out, table_two)


@experiment.command("failover", short_help="Kill leaders: the time until another leads.")
@data_option
@click.option("--kills", type=click.IntRange(1, 10_000), default=30, show_default=True, help="How many leaders.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the moments of the kills.")
@out_option
def kills(*, data: tuple[str, Path | None] | None, kills: int, seed: int, out: Path) -> None:
    """Kill one leader after another with -9: the time until a new one, and until the next committed model."""
    _perform(data, out, lambda laboratory: failover(laboratory, kills, seed))


@experiment.command("rotation", short_help="Seven periods: how often each node leads.")
@data_option
@click.option("--periods", type=click.IntRange(1, 10_000), default=7, show_default=True, help="How many.")
@out_option
def turns(*, data: tuple[str, Path | None] | None, periods: int, out: Path) -> None:
    """Seven periods, shortened to seconds, each ended by a resignation: how often each node leads."""
    _perform(data, out, lambda laboratory: rotation(laboratory, periods))


def _perform(data: tuple[str, Path | None] | None, out: Path, run: Run) -> None:
    """Run an experiment, write its files and show it."""
    console = Console()
    report.prepare(out)
    source, path = data or ("digits", None)
    settings = Data(source="mnist" if source == "mnist" else "digits", path=path.absolute() if path else None)
    with interruptible(), Reporter(console) as reporter:
        if data is None:
            reporter.say(DIGITS_INSTEAD)
        with Laboratory.opened(settings, reporter) as laboratory:
            result = run(laboratory)
    files = report.write(result, out, _circumstances(), datetime.now(UTC))
    report.show(result, files, console)


def _circumstances() -> dict[str, str | int | float | None]:
    return {
        "version": __version__,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": version("torch"),
    }
