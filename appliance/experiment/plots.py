"""Figures as PNG and SVG files, by matplotlib, which is an extra: the only module that knows it."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.experiment.result import Chart, Figure, Histogram, Spans

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
"""Okabe and Ito's, which the colour-blind tell apart."""
MARKERS = "osD^v"
GREY = "#555555"
STYLE: dict[Any, Any] = {"axes.axisbelow": True, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
WIDTH, HEIGHT, DOTS_PER_INCH = 7.5, 4.5, 150


def are_possible() -> bool:
    """Tell whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_all(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Draw each figure into a PNG and an SVG file of its name. Raises OSError."""
    return [file for figure in figures for file in _draw(figure, folder)]


def _draw(figure: Figure, folder: Path) -> list[Path]:
    # Without pyplot no state is left behind.
    from matplotlib import rc_context  # noqa: PLC0415 - an extra, which may not be there
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415 - the same

    panels = len(figure.series) if isinstance(figure, Histogram) else 1
    with rc_context({**STYLE, "svg.hashsalt": figure.name}):
        canvas = Canvas(figsize=(WIDTH, HEIGHT), layout="constrained")
        canvas.suptitle(figure.title)
        axes = list(canvas.subplots(panels, 1, sharex=False, squeeze=False)[:, 0])
        match figure:
            case Chart():
                _draw_chart(figure, axes[0])
            case Histogram():
                _draw_histogram(figure, axes)
            case Spans():
                _draw_spans(figure, axes[0])
        files = [folder / f"{figure.name}.png", folder / f"{figure.name}.svg"]
        canvas.savefig(files[0], dpi=DOTS_PER_INCH)
        canvas.savefig(files[1], metadata={"Date": None})
    return files


def _draw_chart(chart: Chart, axes: "Axes") -> None:
    for line, colour, marker in zip(chart.lines, COLOURS, MARKERS, strict=False):
        values = [float("nan") if value is None else value for value in line.y]
        style = "-" if line.joined else ""
        axes.plot(line.x, values, linestyle=style, marker=marker, color=colour, label=line.label, markersize=5)
    for (label, value), dashes in zip(chart.references.items(), (":", "--", "-."), strict=False):
        axes.axhline(value, color=GREY, linestyle=dashes, linewidth=1, label=label)
    if chart.log_x:
        axes.set_xscale("log")
    else:
        axes.set_xticks(sorted({place for line in chart.lines for place in line.x}))
        axes.margins(x=0.1)
    if chart.log_y:
        axes.set_yscale("log")
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def _draw_histogram(histogram: Histogram, panels: "Sequence[Axes]") -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - an extra, which may not be there

    for bins, axes, colour in zip(histogram.series, panels, COLOURS, strict=False):
        first, last = int(min(bins.values) / bins.step), int(max(bins.values) / bins.step) + 1
        edges = [place * bins.step for place in range(first, last + 1)]
        axes.hist(bins.values, bins=edges, color=colour, edgecolor="white", linewidth=0.5)
        axes.set_title(bins.label, fontsize=10, loc="left")
        axes.set_ylabel(histogram.y_label)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(visible=True, axis="y", alpha=0.3)
    panels[-1].set_xlabel(histogram.x_label)


def _draw_spans(spans: Spans, axes: "Axes") -> None:
    for place, row in enumerate(spans.rows):
        bars = [(span.begin, span.end - span.begin) for span in spans.spans if span.row == row]
        axes.broken_barh(bars, (place - 0.35, 0.7), color=COLOURS[place % len(COLOURS)], edgecolor="white")
    axes.set_yticks(range(len(spans.rows)), labels=list(spans.rows))
    axes.invert_yaxis()
    axes.set_xlabel(spans.x_label)
    axes.grid(visible=True, axis="x", alpha=0.3)
