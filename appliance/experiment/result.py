"""What an experiment gives: facts to keep, sentences and tables to read, figures to draw. Values only."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

Cell = str | int | float | None
Values = Sequence[float | None]
"""None where nothing could be measured: the line has a gap there."""


class Table(Struct, frozen=True):
    """A table for people: the first column is text, all others are set flush right."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[Sequence[str]]


class Line(Struct, frozen=True):
    """A series of points in a chart; joined by a line, or not."""

    label: str
    x: Sequence[float]
    y: Values
    joined: bool = True


class Chart(Struct, frozen=True, kw_only=True):
    """Lines over an axis, with the paper's values as dotted ones across."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    references: Mapping[str, float] = {}
    log_x: bool = False
    log_y: bool = False


class Bins(Struct, frozen=True):
    """Values of which it is counted how many fall into each step."""

    label: str
    values: Sequence[float]
    step: float


class Histogram(Struct, frozen=True, kw_only=True):
    """Counts of values, a panel for each series."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Bins]


class Span(Struct, frozen=True):
    """A bar in a row, from ``begin`` to ``end`` on the axis."""

    row: str
    begin: float
    end: float


class Spans(Struct, frozen=True, kw_only=True):
    """Who did something when: a row for each, first on top."""

    name: str
    title: str
    x_label: str
    rows: Sequence[str]
    spans: Sequence[Span]


Figure = Chart | Histogram | Spans


class Result(Struct, frozen=True, kw_only=True):
    """One experiment's outcome.

    Attributes:
        name: of the experiment, and of its files.
        method: how it was done, a paragraph each.
        findings: what came out beside the paper's figure, a sentence each; the first is the most important.
        reached: what the experiment is to show was shown.
        settings: all that is needed to run it again.
        rows: what was measured, a row each, all with the same keys: the CSV file.
    """

    name: str
    title: str
    method: Sequence[str]
    findings: Sequence[str]
    reached: bool
    settings: Mapping[str, Cell]
    rows: Sequence[Mapping[str, Cell]]
    tables: Sequence[Table]
    figures: Sequence[Figure]
