"""Encoded updates: what rounding costs, what feedback gives back, and that nothing else than an update is decoded."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from appliance.aggregation.encoding import SCALES, encode, encoded_layout
from appliance.aggregation.tensors import Arrays, serialise
from appliance.aggregation.validation import is_finite
from appliance.words.errors import RemoteError
from appliance.words.models import Encoding, ModelLayout, TensorLayout
from tests.unit.aggregation.layouts import SMALL, decode, drawn, models

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
WEIGHTS = st.floats(-10.0, 10.0, width=32)
LOSSY: tuple[Encoding, ...] = ("float16", "int8")
lossy = pytest.mark.parametrize("encoding", LOSSY)
BASE = drawn(0)
UPDATE = {name: array + np.float32(0.01) * drawn(1)[name] for name, array in BASE.items()}


def difference(one: Arrays, other: Arrays) -> dict[str, np.ndarray]:
    return {name: one[name].astype(np.float64) - other[name] for name in one}


def written(encoding: Encoding, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return a sound update with a change in its tensors, in the library's bytes."""
    content, _ = encode(UPDATE, BASE, SMALL, encoding)
    tensors = {name: array.copy() for name, array in safetensors.numpy.load(content).items()}
    change(tensors)
    return safetensors.numpy.save(tensors)


# --- there and back --------------------------------------------------------------------------------------------------


@given(models(FINITE), models(FINITE))
def test_float32_is_exact_and_looks_at_nothing_else(update: Arrays, base: Arrays) -> None:
    content, lost = encode(update, {}, SMALL, "float32", base)
    assert content == serialise(update, SMALL)
    assert lost is None
    decoded = decode(content, {}, SMALL, "float32")
    assert all(decoded[name].tobytes() == update[name].tobytes() for name in update)


@lossy
@given(update=models(WEIGHTS), base=models(WEIGHTS))
def test_rounding_is_bounded_by_the_largest_difference_of_each_tensor(
    encoding: Encoding, update: Arrays, base: Arrays
) -> None:
    decoded = decode(encode(update, base, SMALL, encoding)[0], base, SMALL, encoding)
    wanted = difference(update, base)
    for name, error in difference(decoded, update).items():
        largest = np.abs(wanted[name]).max()
        bound = largest / 254 if encoding == "int8" else np.abs(wanted[name]) * 2.0**-11 + largest * 2.0**-39
        assert (np.abs(error) <= bound * 1.001 + 10 * 2.0**-24 + 1e-35).all()


@lossy
@given(update=models(FINITE), base=models(FINITE), residual=models(FINITE))
def test_any_finite_update_can_be_encoded_and_stays_finite(
    encoding: Encoding, update: Arrays, base: Arrays, residual: Arrays
) -> None:
    """To the ends of float32, far beyond those of float16: nothing becomes infinity, and nothing raises."""
    content, lost = encode(update, base, SMALL, encoding, residual)
    decoded = decode(content, base, SMALL, encoding)
    assert lost is not None
    for name, array in decoded.items():
        assert array.dtype == np.float32
        assert array.shape == update[name].shape
        assert is_finite(array)
        assert is_finite(lost[name])


@lossy
def test_a_difference_beyond_float16_comes_through(encoding: Encoding) -> None:
    layout = (TensorLayout("a", "F32", (3,)),)
    base, update = {"a": np.zeros(3, np.float32)}, {"a": np.array([1e6, -3e5, 0.0], np.float32)}
    decoded = decode(encode(update, base, layout, encoding)[0], base, layout, encoding)["a"]
    assert np.allclose(decoded, update["a"], atol=1e6 / 254, rtol=0)


@lossy
@given(update=models(WEIGHTS), base=models(WEIGHTS))
def test_the_same_update_has_the_same_bytes_whatever_its_memory_looks_like(
    encoding: Encoding, update: Arrays, base: Arrays
) -> None:
    turned = {name: np.array(update[name], order="F") for name in reversed(update)}
    assert encode(turned, base, SMALL, encoding)[0] == encode(update, base, SMALL, encoding)[0]


@lossy
@given(update=models(FINITE), base=models(FINITE))
def test_the_length_depends_on_encoding_and_layout_alone(encoding: Encoding, update: Arrays, base: Arrays) -> None:
    zeros = {name: np.zeros_like(array) for name, array in base.items()}
    assert len(encode(update, base, SMALL, encoding)[0]) == len(encode(zeros, zeros, SMALL, encoding)[0])


@lossy
def test_an_unchanged_model_and_an_empty_tensor_cost_nothing(encoding: Encoding) -> None:
    layout: ModelLayout = (*SMALL, TensorLayout("z", "F32", (0, 4)))
    base = BASE | {"z": np.empty((0, 4), np.float32)}
    content, lost = encode(base, base, layout, encoding)
    assert lost is not None
    assert not any(array.any() for array in lost.values())
    decoded = decode(content, base, layout, encoding)
    assert all(decoded[name].tobytes() == base[name].tobytes() for name in base)


@lossy
def test_what_is_too_small_to_be_scaled_waits_in_the_residual(encoding: Encoding) -> None:
    layout = (TensorLayout("a", "F32", (2,)),)
    zero, tiny = {"a": np.zeros(2, np.float32)}, {"a": np.array([1e-38, -1e-40], np.float32)}
    content, lost = encode(tiny, zero, layout, encoding)
    assert not decode(content, zero, layout, encoding)["a"].any()
    assert lost is not None
    assert (lost["a"] == tiny["a"]).all()


@lossy
def test_tensors_longer_than_a_chunk_come_back_whole(encoding: Encoding) -> None:
    layout = (TensorLayout("a", "F32", (3, 40_001)),)
    random = np.random.default_rng(0)
    base = {"a": random.standard_normal((3, 40_001)).astype(np.float32)}
    update = {"a": base["a"] + random.uniform(-1, 1, (3, 40_001)).astype(np.float32)}
    decoded = decode(encode(update, base, layout, encoding)[0], base, layout, encoding)["a"]
    assert np.abs(decoded - update["a"]).max() <= 1.001 / 254


@pytest.mark.parametrize("encoding", LOSSY)
def test_arrays_of_another_layout_are_the_callers_mistake(encoding: Encoding) -> None:
    for update, base, residual in (
        (UPDATE | {"scale": np.zeros(1, np.float32)}, BASE, None),
        (UPDATE, BASE | {"scale": np.zeros(1, np.float32)}, None),
        (UPDATE, BASE, BASE | {"scale": np.zeros(1, np.float32)}),
    ):
        with pytest.raises(ValueError, match=r"shape|layout"):
            encode(update, base, SMALL, encoding, residual)
    with pytest.raises(ValueError, match="only F32"):
        encode(UPDATE, BASE, (TensorLayout("a.bias", "F64", (3,)),), encoding)


# --- error feedback --------------------------------------------------------------------------------------------------


@lossy
@given(updates=st.lists(models(WEIGHTS), min_size=1, max_size=8), base=models(WEIGHTS))
def test_over_the_rounds_all_of_every_difference_arrives(
    encoding: Encoding, updates: list[Arrays], base: Arrays
) -> None:
    """What the leader got, and the last residual, are the sum of all differences: nothing is lost, only late."""
    wanted = {name: np.zeros(array.shape) for name, array in base.items()}
    got = {name: np.zeros(array.shape) for name, array in base.items()}
    residual: Arrays | None = None
    for update in updates:
        content, residual = encode(update, base, SMALL, encoding, residual)
        for name, moved in difference(decode(content, base, SMALL, encoding), base).items():
            got[name] += moved
            wanted[name] += update[name].astype(np.float64) - base[name]
    assert residual is not None
    for name in base:
        assert np.allclose(got[name] + residual[name], wanted[name], atol=1e-5, rtol=0)


def test_feedback_brings_through_what_rounding_alone_never_would() -> None:
    """A small step that is always rounded away beside a large one."""
    layout = (TensorLayout("a", "F32", (2,)),)
    base, update = {"a": np.zeros(2, np.float32)}, {"a": np.array([1.0, 0.001], np.float32)}
    with_feedback, without = 0.0, 0.0
    residual: Arrays | None = None
    for _ in range(100):
        content, residual = encode(update, base, layout, "int8", residual)
        with_feedback += float(decode(content, base, layout, "int8")["a"][1])
        without += float(decode(encode(update, base, layout, "int8")[0], base, layout, "int8")["a"][1])
    assert without == 0.0
    assert with_feedback == pytest.approx(0.1, abs=1 / 127)


@lossy
@given(updates=st.lists(models(WEIGHTS), min_size=2, max_size=20), base=models(WEIGHTS))
def test_the_residual_never_grows(encoding: Encoding, updates: list[Arrays], base: Arrays) -> None:
    residual: Arrays | None = None
    for update in updates:
        _, residual = encode(update, base, SMALL, encoding, residual)
        assert residual is not None
        # Half a unit of the largest difference, 20, and of what was added to it.
        assert all(np.abs(array).max() <= 20 / 253 + 1e-5 for array in residual.values())


# --- hostile bytes ---------------------------------------------------------------------------------------------------


def set_scale(value: float) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors[SCALES].put(1, value)


@pytest.mark.parametrize(
    ("encoding", "change", "reason"),
    [
        ("int8", set_scale(np.nan), "scale of the update is negative or not finite"),
        ("int8", set_scale(np.inf), "scale of the update is negative or not finite"),
        ("float16", set_scale(-1.0), "scale of the update is negative or not finite"),
        ("int8", lambda tensors: tensors["a.bias"].put(2, -128), "a.bias holds a value beyond 127"),
        ("float16", lambda tensors: tensors["scale"].fill(np.nan), "scale holds a value beyond 32768"),
        ("float16", lambda tensors: tensors["a.weight"].put(5, np.inf), "a.weight holds a value beyond"),
        ("float16", lambda tensors: tensors["a.weight"].put(5, -40_000), "a.weight holds a value beyond"),
        ("int8", lambda tensors: tensors.pop("scale"), "lacks the tensor scale"),
        ("int8", lambda tensors: tensors.pop(SCALES), f"lacks the tensor {SCALES}"),
        ("int8", lambda tensors: tensors.update(more=np.zeros(1, np.int8)), "5 tensors, and 4"),
        ("int8", lambda tensors: tensors.update(scale=np.zeros((), np.uint8)), "scale is not of type I8"),
        ("int8", lambda tensors: tensors.update(scale=np.zeros((), np.float32)), "scale is not of type I8"),
        ("float16", lambda tensors: tensors.update(scale=np.zeros((), np.int8)), "scale is not of type F16"),
        ("int8", lambda tensors: tensors.update({SCALES: np.zeros(3, np.float64)}), "is not of type F32"),
        ("int8", lambda tensors: tensors.update({SCALES: np.zeros(2, np.float32)}), r"is not of shape \[3\]"),
        ("int8", lambda tensors: tensors.update(scale=np.zeros((1,), np.int8)), r"scale is not of shape \[\]"),
    ],
)
def test_what_is_no_such_update_is_refused_with_its_reason(
    encoding: Encoding, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    with pytest.raises(RemoteError, match=reason):
        decode(written(encoding, change), BASE, SMALL, encoding)


@pytest.mark.parametrize("sent", ["float32", "float16", "int8"])
@pytest.mark.parametrize("expected", ["float32", "float16", "int8"])
def test_one_encoding_is_never_taken_for_another(sent: Encoding, expected: Encoding) -> None:
    content, _ = encode(UPDATE, BASE, SMALL, sent)
    if sent == expected:
        decode(content, BASE, SMALL, expected)
        return
    with pytest.raises(RemoteError):
        decode(content, BASE, SMALL, expected)


@lossy
def test_a_sum_beyond_float32_is_brought_to_its_end(encoding: Encoding) -> None:
    largest = np.finfo(np.float32).max
    base = {name: np.full_like(array, largest) for name, array in BASE.items()}

    def change(tensors: dict[str, Any]) -> None:
        tensors[SCALES].fill(largest)
        tensors["a.bias"].fill(127)

    decoded = decode(written(encoding, change), base, SMALL, encoding)
    assert (decoded["a.bias"] == largest).all()


@lossy
def test_every_cut_is_refused(encoding: Encoding) -> None:
    content, _ = encode(UPDATE, BASE, SMALL, encoding)
    for length in range(len(content)):
        with pytest.raises(RemoteError):
            decode(content[:length], BASE, SMALL, encoding)
    with pytest.raises(RemoteError):
        decode(content + b"\0", BASE, SMALL, encoding)


@lossy
@given(place=st.integers(0, 400), change=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_makes_a_finite_model(encoding: Encoding, place: int, change: int) -> None:
    content = bytearray(encode(UPDATE, BASE, SMALL, encoding)[0])
    content[place % len(content)] ^= change
    try:
        decoded = decode(bytes(content), BASE, SMALL, encoding)
    except RemoteError:
        return
    assert all(is_finite(array) for array in decoded.values())


@lossy
@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused_and_raise_nothing_else(encoding: Encoding, content: bytes) -> None:
    with pytest.raises(RemoteError):
        decode(content, BASE, SMALL, encoding)


@lossy
def test_hostile_bytes_cost_no_more_memory_than_the_layout_says(encoding: Encoding) -> None:
    layout = (TensorLayout("a", "F32", (1000, 1000)),)
    base = {"a": np.zeros((1000, 1000), np.float32)}
    sound, _ = encode(base, base, layout, encoding)
    header = json.dumps({"a": {"dtype": "I8", "shape": [2**40], "data_offsets": [0, 2**40]}}).encode()
    claims_much = len(header).to_bytes(8, "little") + header
    bad_at_its_end = bytearray(sound)
    bad_at_its_end[-2:] = b"\xff\x80" if encoding == "int8" else b"\x00\x7e"
    for content, most in ((sound, 4_000_000 + 2**20), (claims_much, 2**16), (bytes(bad_at_its_end), 2**16)):
        tracemalloc.start()
        try:
            decode(content, base, layout, encoding)
        except RemoteError:
            assert content is not sound
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak <= most


def test_an_encoded_layout_is_sorted_and_says_all() -> None:
    assert encoded_layout(SMALL, "float32") == SMALL
    assert encoded_layout(SMALL, "int8") == (
        TensorLayout(SCALES, "F32", (3,)),
        TensorLayout("a.bias", "I8", (3,)),
        TensorLayout("a.weight", "I8", (3, 2)),
        TensorLayout("scale", "I8", ()),
    )
