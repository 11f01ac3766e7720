"""A result as files that a person can hand on: JSON, CSV, a report in Markdown, and plots; and on a terminal."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from appliance.experiment import plots
from appliance.experiment.result import Cell, Result, Table
from appliance.words.errors import OperatorError

NO_PLOTS = "No plots: matplotlib is not installed. To have them: pip install 'p2pfl-node[reports]'"


def prepare(folder: Path) -> None:
    """Make the folder for the results, before the experiment runs. Raises OperatorError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"{folder}: can't be made ({error.strerror}); choose another folder with --out") from None


def write(result: Result, folder: Path, circumstances: Mapping[str, Cell], now: datetime) -> list[Path]:
    """Write all files of a result; return their paths. Earlier ones of this experiment are replaced.

    Args:
        circumstances: what is to be known of the machine and the program.

    Raises:
        OperatorError: they can't be written.
    """
    base = folder / result.name
    try:
        drawn = plots.draw_all(result.figures, folder) if plots.are_possible() else []
        contents = {
            base.with_suffix(".json"): encoded(result, circumstances, now),
            base.with_suffix(".csv"): comma_separated(result),
            base.with_suffix(".md"): markdown(result, circumstances, now, [file.name for file in drawn]),
        }
        for file, content in contents.items():
            file.write_text(content, encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{folder}: can't be written ({error.strerror}); choose another with --out") from None
    return [*contents, *drawn]


def show(result: Result, files: list[Path], console: Console) -> None:
    """Print tables and findings, and where the files are."""
    for table in result.tables:
        shown = RichTable(box=SIMPLE_HEAD, title=table.title, title_justify="left", padding=(0, 1, 0, 0))
        for place, heading in enumerate(table.headings):
            shown.add_column(heading, justify="left" if place == 0 else "right")
        for row in table.rows:
            shown.add_row(*map(Text, row))
        console.print()
        console.print(shown)
    console.print()
    for finding in result.findings:
        console.print(finding, highlight=False, markup=False)
    if not plots.are_possible():
        console.print(NO_PLOTS, highlight=False, markup=False)
    names = ", ".join(file.name for file in files)
    console.print(f"\nIn {files[0].parent}: {names}", highlight=False, markup=False)


# --- contents (pure) --------------------------------------------------------------------------------------------------


def encoded(result: Result, circumstances: Mapping[str, Cell], now: datetime) -> str:
    """Return the JSON text: what was found, how, and all that was measured."""
    content = {
        "experiment": result.name,
        "at": _time(now),
        "circumstances": dict(circumstances),
        "settings": dict(result.settings),
        "reached": result.reached,
        "findings": list(result.findings),
        "tables": msgspec.to_builtins(result.tables),
        "measured": [dict(row) for row in result.rows],
    }
    return json.dumps(content, indent=2) + "\n"


def comma_separated(result: Result) -> str:
    """Return the CSV text of all that was measured."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(result.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(result.rows)
    return text.getvalue()


def markdown(result: Result, circumstances: Mapping[str, Cell], now: datetime, plot_names: list[str]) -> str:
    """Return the report; it shows the plots that lie beside it."""
    parts = [f"# {result.title}", "\n".join(f"- {finding}" for finding in result.findings)]
    parts += [_markdown_table(table) for table in result.tables]
    parts += [f"![{Path(name).stem}]({name})" for name in plot_names if name.endswith(".png")]
    if not plot_names:
        parts.append(NO_PLOTS + ".")
    parts += ["## How it was measured", *result.method]
    facts = [f"{_words(key)} {value}" for key, value in circumstances.items()]
    settings = [f"{_words(key)} {value}" for key, value in result.settings.items()]
    parts.append(f"Run by p2pfl-node, {_time(now)}: {', '.join(facts)}. Settings: {', '.join(settings)}.")
    parts.append(f"All that was measured is in `{result.name}.csv` and `{result.name}.json`.")
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [f"**{table.title}**", "", _line(table.headings)]
    lines.append("|" + "|".join("---" if place == 0 else "---:" for place in range(len(table.headings))) + "|")
    return "\n".join([*lines, *(_line(row) for row in table.rows)])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _words(key: str) -> str:
    return key.replace("_", " ")


def _time(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="seconds")
