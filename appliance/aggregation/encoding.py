"""An update's bytes on their way to the leader: exact, or rounded to fewer bits. Pure and deterministic.

``float32`` holds the weights as they are. The others hold the difference to the base model, in units of a scale that
each tensor has for itself: the largest difference is the largest number in use. A difference is small, so the same bits
tell more of it than of the weight; and by the scale nothing is ever beyond the range of float16, or vanishes below it.

What rounding loses of an update is its residual. Whoever sent the update adds that to its next difference before
rounding ("error feedback": Seide et al. 2014, "1-Bit Stochastic Gradient Descent", section 3). So over the rounds
nothing is lost, only late; without it, rounding that always errs the same way adds up, and training may not converge
(Karimireddy et al. 2019, "Error Feedback Fixes SignSGD and other Gradient Compression Schemes").
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.aggregation.numbers import Combined, Numbers, Values, Weights, in_memory, parts
from appliance.aggregation.strategy import check_layout
from appliance.aggregation.tensors import Array, Arrays, parse, serialise
from appliance.aggregation.validation import parse_update
from appliance.words.errors import RemoteError
from appliance.words.models import Encoding, ModelLayout, TensorLayout

SCALES = "__scales__"
"""The tensor with the scales, float32, one for each tensor of the layout, in its order. No network has this name."""

_FLOAT32 = np.finfo(np.float32)


@dataclass(frozen=True, slots=True)
class _Form:
    """How differences are written, in units of the scale.

    Attributes:
        word: safetensors' word for the type.
        largest: in use, on both sides of 0. For float16 the last power of two: dividing by it is exact.
    """

    word: str
    type: np.dtype[Any]
    largest: float


_FORMS: dict[Encoding, _Form] = {
    "float16": _Form("F16", np.dtype(np.float16), 2.0**15),
    "int8": _Form("I8", np.dtype(np.int8), 127.0),
}


def encoded_layout(layout: ModelLayout, encoding: Encoding) -> ModelLayout:
    """Return the tensors of an encoded update; they, and so its length, depend on nothing else."""
    if encoding == "float32":
        return layout
    word = _FORMS[encoding].word
    values = [TensorLayout(tensor.name, word, tensor.shape) for tensor in layout]
    scales = TensorLayout(SCALES, "F32", (len(layout),))
    return tuple(sorted([scales, *values], key=lambda tensor: tensor.name))


def encode(
    arrays: Mapping[str, Array],
    base: Mapping[str, Array],
    layout: ModelLayout,
    encoding: Encoding,
    residual: Mapping[str, Array] | None = None,
) -> tuple[bytes, Arrays | None]:
    """Return an update's bytes, and the residual to be added next time if this update counts.

    The same arguments give the same bytes on every machine.

    Args:
        arrays: finite float32 tensors of the layout: the trained weights.
        base: those that they were trained from; not looked at for ``float32``.
        layout: float32 tensors only.
        encoding: what to write.
        residual: finite float32 tensors of the layout; None: there is none. Not looked at for ``float32``, which has no
            room for it: it is exact.

    Returns:
        safetensors bytes of ``encoded_layout``; and finite float32 tensors of the layout, None for ``float32``.

    Raises:
        ValueError: these are not tensors of the layout.
    """
    if encoding == "float32":
        return serialise(arrays, layout), None
    check_layout(layout)
    form = _FORMS[encoding]
    scales = np.empty(len(layout), np.float32)
    encoded: dict[str, NDArray[Any]] = {SCALES: scales}
    lost: Arrays = {}
    for place, tensor in enumerate(layout):
        name, shape = tensor.name, tensor.shape
        wanted = _Wanted(arrays[name], base[name], None if residual is None else residual[name])
        values, scales[place], rest = _rounded(wanted, form)
        encoded[name], lost[name] = values.reshape(shape), rest.reshape(shape)
    return serialise(encoded, encoded_layout(layout, encoding)), lost


@dataclass(frozen=True, slots=True)
class Encoded:
    """An update as it was sent, and found to be one.

    Attributes:
        values: of each tensor; views into the content.
        scales: of each tensor; empty for ``float32``.
    """

    values: Mapping[str, Values]
    scales: Mapping[str, float]

    def elsewhere(self, move: Callable[[NDArray[Any]], Values]) -> "Encoded":
        """Return the same, with values that are read where ``move`` says that these arrays now are."""
        return Encoded({name: move(np.asarray(values)) for name, values in self.values.items()}, self.scales)

    def restored(self, base: Weights) -> dict[str, Numbers]:
        """Return the weights that it stands for, to be read part by part.

        Args:
            base: finite numbers for each tensor of the layout; not looked at for ``float32``.
        """
        if not self.scales:
            return dict(self.values)
        return {
            name: Combined(base[name], self.values[name], functools.partial(_sum, scale))
            for name, scale in self.scales.items()
        }


def check(content: bytes | memoryview, layout: ModelLayout, encoding: Encoding) -> Encoded:
    """Return what another node sent as an update, as it is: nothing is copied.

    Args:
        content: all of its bytes.
        layout: float32 tensors only.
        encoding: what was agreed on.

    Raises:
        RemoteError: it is not exactly the tensors of ``encoded_layout``, or holds a scale or a value that can't be.
    """
    if encoding == "float32":
        return Encoded(in_memory(parse_update(content, layout)), {})
    form = _FORMS[encoding]
    encoded: Mapping[str, NDArray[Any]] = parse(content, encoded_layout(layout, encoding))
    scales = encoded[SCALES]
    if not bool((np.isfinite(scales) & (scales >= 0)).all()):
        raise RemoteError("a scale of the update is negative or not finite")
    for tensor in layout:
        if not _is_in_range(encoded[tensor.name], form.largest):
            raise RemoteError(f"the tensor {tensor.name} holds a value beyond {form.largest:g}")
    return Encoded(
        {tensor.name: encoded[tensor.name].reshape(-1) for tensor in layout},
        {tensor.name: float(scale) for tensor, scale in zip(layout, scales, strict=True)},
    )


class _Wanted:
    """One tensor's difference, with the residual on top, in float64: of any finite float32 numbers it is finite."""

    def __init__(self, after: Array, before: Array, residual: Array | None) -> None:
        if not after.shape == before.shape == (after.shape if residual is None else residual.shape):
            raise ValueError("the weights, their base and the residual are not of one shape")
        self._after, self.before = after.reshape(-1), before.reshape(-1)
        self._residual = None if residual is None else residual.reshape(-1)
        self.count = self._after.size

    def part(self, part: slice) -> NDArray[np.float64]:
        """Return a part of it."""
        wanted = self._after[part].astype(np.float64)
        wanted -= self.before[part]
        if self._residual is not None:
            wanted += self._residual[part]
        return wanted

    def largest(self) -> float:
        """Return its largest absolute value; 0 if it is empty."""
        return max((float(np.abs(self.part(part)).max()) for part in parts(self.count)), default=0.0)


def _rounded(wanted: _Wanted, form: _Form) -> tuple[NDArray[Any], np.float32, Array]:
    """Return the numbers, their scale, and what they lack."""
    scale = np.float32(wanted.largest() / form.largest)
    if scale < _FLOAT32.tiny:
        scale = np.float32(0.0)  # too small to divide by on every processor: all of it is residual
    values, rest = np.zeros(wanted.count, form.type), np.empty(wanted.count, np.float32)
    for part in parts(wanted.count):
        exact, before = wanted.part(part), wanted.before[part]
        if scale:
            scaled = exact / float(scale)
            values[part] = np.rint(scaled) if form.type.kind == "i" else scaled
        sent = _sum(float(scale), before, values[part]).astype(np.float64) - before
        rest[part] = exact - sent
    return values, scale, rest


def _sum(scale: float, before: NDArray[np.float32], values: NDArray[Any]) -> NDArray[np.float32]:
    """Return the base plus the scaled difference, rounded once to float32.

    Never infinite: the sum is brought to the end of float32's range, which a weight may be at. A hostile update gains
    nothing by it, since it can name that number anyway.
    """
    exact = values.astype(np.float64)
    exact *= scale
    exact += before
    return np.clip(exact, _FLOAT32.min, _FLOAT32.max, out=exact).astype(np.float32)


def _is_in_range(values: NDArray[Any], largest: float) -> bool:
    """Tell whether all values are within +-``largest``. NaN is not: no comparison with it is true."""
    return values.size == 0 or bool(-largest <= values.min() and values.max() <= largest)
