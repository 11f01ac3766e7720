"""A classifier for rows of a CSV file, as banks and hospitals have them: numbers and categories in, one class out.

What the columns mean is part of the task, and the same on every node: how a number is scaled, which values a category
has. No node needs to know another's data for it, and none is derived from the data.
"""

import csv
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import nn

from appliance.training.shards import partition
from appliance.training.task import Samples, Task
from appliance.words.errors import OperatorError
from appliance.words.settings import Data, Section


class Number(Section, frozen=True):
    """A column of numbers: each becomes ``(value - mean) / std``; an empty field counts as the mean."""

    mean: float = 0.0
    std: Annotated[float, Meta(gt=0)] = 1.0


class Category(Section, frozen=True):
    """A column of a few values: each becomes a number of its own, 1 or 0; another value is none of them."""

    values: Annotated[list[str], Meta(min_length=1, max_length=1000)]


class Options(Section, frozen=True):
    """The table ``task.options``; the same on every node, ``held_out`` apart.

    Attributes:
        label: the column that is to be told from the others.
        classes: its values.
        columns: what the network sees, by the column's name: a number's scale, or a category's values.
        hidden: sizes of the hidden layers.
        held_out: share of this node's rows that models are judged by, and that it does not learn from.
    """

    label: str
    classes: Annotated[list[str], Meta(min_length=2, max_length=256)]
    columns: Annotated[dict[str, dict[str, object]], Meta(min_length=1)]
    hidden: Annotated[list[Annotated[int, Meta(ge=1, le=65_536)]], Meta(max_length=16)] = msgspec.field(
        default_factory=lambda: [64, 32]
    )
    held_out: Annotated[float, Meta(gt=0, lt=1)] = 0.2


Column = Number | Category


class TabularTask(Task):
    """float32 features [rows, width], int64 classes [rows], and a multilayer perceptron."""

    name = "tabular"

    def __init__(self, options: Options, training: Samples, held_out: Samples, *, shard: int) -> None:
        super().__init__(training, held_out, shard=shard)
        self._widths = [training.features.shape[1], *options.hidden, len(options.classes)]
        meaning = msgspec.json.encode(msgspec.structs.replace(options, held_out=0.5), order="sorted")
        # Two nodes that scale a column in two ways would average numbers of two meanings.
        self.version = f"1-{hashlib.sha256(meaning).hexdigest()[:8]}"

    def network(self) -> nn.Module:
        """As ``Task.network``: linear layers with ReLU between."""
        layers: list[nn.Module] = []
        for inputs, outputs in zip(self._widths, self._widths[1:], strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def tabular(data: Data, options: Mapping[str, object], cache: Path) -> Task:  # noqa: ARG001 - reads the file each time
    """Make the task ``tabular`` from the CSV file at ``data.path``: its rows, or this node's shard of them.

    Raises:
        OperatorError: the options, or the file: naming the line and the column.
    """
    settings, columns = _parse(options)
    if data.path is None:
        raise OperatorError("data.path is missing; the task tabular needs a CSV file")
    features, labels = _read(data.path, settings, columns)
    order = np.random.default_rng(data.seed).permutation(len(labels))
    count = round(len(labels) * settings.held_out)
    held_out, training = order[:count], order[count:]
    if count < 1 or data.shards > len(training):
        raise OperatorError(
            f"data.path: {data.path} has {len(labels)} rows, too few to hold some out and share the rest"
        )
    mine = training[partition(labels[training], data.shards, data.alpha, data.seed)[data.shard]]
    return TabularTask(
        settings, _samples(features, labels, mine), _samples(features, labels, held_out), shard=data.shard
    )


def _parse(options: Mapping[str, object]) -> tuple[Options, dict[str, Column]]:
    try:
        settings = msgspec.convert(dict(options), Options)
        return settings, {name: _column(name, given) for name, given in settings.columns.items()}
    except msgspec.ValidationError as error:
        raise OperatorError(f"task.options: {error}") from None


def _column(name: str, given: dict[str, object]) -> Column:
    try:
        return msgspec.convert(given, Category) if "values" in given else msgspec.convert(given, Number)
    except msgspec.ValidationError as error:
        raise OperatorError(f"task.options.columns.{name}: {error}") from None


def _read(path: Path, options: Options, columns: Mapping[str, Column]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return features, float32 [rows, width], and classes, uint8 [rows]."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            for name in (options.label, *columns):
                if name not in (rows.fieldnames or ()):
                    raise OperatorError(f"data.path: {path} has no column {name}")
            pairs = [
                (list(_encoded(row, columns, path, at)), _class(row, options, path, at)) for at, row in _lines(rows)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OperatorError(f"data.path: {path} can't be read as CSV in UTF-8 ({error})") from None
    if not pairs:
        raise OperatorError(f"data.path: {path} has no rows")
    return np.array([pair[0] for pair in pairs], np.float32), np.array([pair[1] for pair in pairs], np.uint8)


def _lines(rows: "csv.DictReader[str]") -> Iterator[tuple[int, dict[str, str]]]:
    for row in rows:
        yield rows.line_num, {name: value or "" for name, value in row.items() if isinstance(name, str)}


def _encoded(row: Mapping[str, str], columns: Mapping[str, Column], path: Path, line: int) -> Iterator[float]:
    for name, column in columns.items():
        text = row[name].strip()
        if isinstance(column, Category):
            yield from (float(text == value) for value in column.values)
        elif not text:
            yield 0.0
        else:
            try:
                yield (float(text) - column.mean) / column.std
            except ValueError:
                raise OperatorError(f"data.path: {path}, line {line}: {name} is no number: {text[:40]!r}") from None


def _class(row: Mapping[str, str], options: Options, path: Path, line: int) -> int:
    text = row[options.label].strip()
    if text not in options.classes:
        raise OperatorError(
            f"data.path: {path}, line {line}: {options.label} is {text[:40]!r}, which is not in task.options.classes"
        )
    return options.classes.index(text)


def _samples(features: NDArray[np.float32], labels: NDArray[np.uint8], places: NDArray[np.int64]) -> Samples:
    return Samples(torch.from_numpy(features[places]), torch.from_numpy(labels[places].astype(np.int64)))
