"""Results as files and on a terminal: whole, readable, 80 columns, and never a half one."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from appliance.experiment import plots, report
from appliance.experiment.result import Bins, Cell, Chart, Histogram, Line, Result, Span, Spans, Table
from appliance.words.errors import OperatorError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CIRCUMSTANCES: dict[str, Cell] = {"version": "0.1.0", "cores": 2}
RESULT = Result(
    name="table1",
    title="Table I",
    method=["Five nodes train.", "Once."],
    findings=["The aggregated model has 96.20%; paper: 96.04%."],
    reached=True,
    settings={"data": "mnist", "batch_size": 64},
    rows=[{"seed": 0, "model": "a|b", "loss": 0.25}, {"seed": 1, "model": 'c"d', "loss": None}],
    tables=[Table("Means", ("model", "accuracy"), [("a|b", "94.00%"), ("[bold]c", "95.00%")])],
    figures=[
        Chart(
            name="lines",
            title="Lines",
            x_label="rate",
            y_label="loss",
            lines=[Line("round 1", [1e-3, 1e-2, 1e-1], [0.3, 0.2, None]), Line("each", [1e-3], [0.5], joined=False)],
            references={"paper": 0.4},
            log_x=True,
            log_y=True,
        ),
        Chart(name="points", title="Points", x_label="seed", y_label="%", lines=[Line("one", [0], [96], joined=False)]),
        Histogram(
            name="bars",
            title="Bars",
            x_label="s",
            y_label="kills",
            series=[Bins("a", [0.5, 0.61, 0.65], 0.1), Bins("b", [1.0], 0.25)],
        ),
        Spans(name="spans", title="Spans", x_label="s", rows=["node0", "node1"], spans=[Span("node1", 0.0, 5.0)]),
    ],
)


def test_json_holds_all_that_was_measured_and_how() -> None:
    content = json.loads(report.encoded(RESULT, CIRCUMSTANCES, NOW))
    assert content["experiment"] == "table1"
    assert content["at"] == "2026-01-02T03:04:05+00:00"
    assert content["measured"] == RESULT.rows
    assert content["settings"] == {"data": "mnist", "batch_size": 64}
    assert content["circumstances"] == CIRCUMSTANCES
    assert content["reached"] is True


def test_csv_is_read_again_as_it_was() -> None:
    rows = list(csv.DictReader(io.StringIO(report.comma_separated(RESULT))))
    assert rows == [{"seed": "0", "model": "a|b", "loss": "0.25"}, {"seed": "1", "model": 'c"d', "loss": ""}]


def test_the_report_stands_by_itself() -> None:
    assert report.markdown(RESULT, CIRCUMSTANCES, NOW, ["lines.png", "lines.svg"]) == (
        "# Table I\n\n"
        "- The aggregated model has 96.20%; paper: 96.04%.\n\n"
        "**Means**\n\n"
        "| model | accuracy |\n"
        "|---|---:|\n"
        "| a\\|b | 94.00% |\n"
        "| [bold]c | 95.00% |\n\n"
        "![lines](lines.png)\n\n"
        "## How it was measured\n\n"
        "Five nodes train.\n\n"
        "Once.\n\n"
        "Run by p2pfl-node, 2026-01-02T03:04:05+00:00: version 0.1.0, cores 2. Settings: data mnist, batch size 64.\n\n"
        "All that was measured is in `table1.csv` and `table1.json`.\n"
    )


def test_without_matplotlib_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "are_possible", lambda: False)
    files = report.write(RESULT, tmp_path, CIRCUMSTANCES, NOW)
    assert {file.name for file in files} == {file.name for file in tmp_path.iterdir()}
    assert {file.name for file in files} == {"table1.json", "table1.csv", "table1.md"}
    assert "pip install 'p2pfl-node[reports]'" in (tmp_path / "table1.md").read_text()
    shown = _shown(files)
    assert shown.count("p2pfl-node[reports]") == 1


def _shown(files: list[Path]) -> str:
    console = Console(file=io.StringIO(), width=80)
    report.show(RESULT, files, console)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_what_is_shown_is_plain_text_of_80_columns(tmp_path: Path) -> None:
    shown = _shown([tmp_path / f"a-rather-long-name-of-a-file-{number}.json" for number in range(5)])
    assert "[bold]c" in shown, "a table's cells are text, not markup"
    assert "\x1b" not in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert RESULT.findings[0] in shown


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"file/results: can't be made \(Not a directory\); .* --out"):
        report.prepare(tmp_path / "file" / "results")
    with pytest.raises(OperatorError, match=r"missing: can't be written \(No such file or directory\); .* --out"):
        report.write(RESULT, tmp_path / "missing", CIRCUMSTANCES, NOW)


# Matplotlib's own dependencies deprecate each other's names now and then.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_each_figure_is_drawn_as_png_and_svg(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots are an extra")
    files = plots.draw_all(RESULT.figures, tmp_path)
    names = ["lines", "points", "bars", "spans"]
    assert [file.name for file in files] == [f"{name}.{kind}" for name in names for kind in ("png", "svg")]
    for png, svg in zip(files[::2], files[1::2], strict=True):
        assert png.read_bytes().startswith(b"\x89PNG")
        assert svg.read_text().rstrip().endswith("</svg>")
    first = files[1].read_bytes()
    plots.draw_all(RESULT.figures, tmp_path)
    assert files[1].read_bytes() == first, "the same figure gives the same SVG"
