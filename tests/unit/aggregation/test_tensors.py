"""A model's bytes: equal to the library's, and nothing but a model gets through."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from appliance.aggregation.tensors import parse, serialise
from appliance.words.errors import RemoteError
from appliance.words.models import TensorLayout
from tests.unit.aggregation.layouts import SMALL, drawn, models

FLOATS = st.floats(width=32)
GOOD = serialise(drawn(0), SMALL)


def with_header(change: Callable[[dict[str, dict[str, object]]], object], tail: bytes = b"") -> bytes:
    """Return the good model with a changed header, unpadded: the library allows any length."""
    length = int.from_bytes(GOOD[:8], "little")
    header = json.loads(GOOD[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + GOOD[8 + length :] + tail


@given(models(FLOATS))
def test_parse_gives_back_what_was_serialised(model: dict[str, np.ndarray]) -> None:
    parsed = parse(serialise(model, SMALL), SMALL)
    assert parsed.keys() == model.keys()
    assert all(parsed[name].tobytes() == model[name].tobytes() for name in model)
    assert all(parsed[name].shape == model[name].shape for name in model)


@given(models(FLOATS))
def test_the_bytes_are_those_of_the_library(model: dict[str, np.ndarray]) -> None:
    assert serialise(model, SMALL) == safetensors.numpy.save(model)


def test_bytes_do_not_depend_on_the_order_or_the_strides_of_the_arrays() -> None:
    model = drawn(1)
    turned = {name: np.array(model[name], order="F") for name in reversed(model)}
    assert serialise(turned, SMALL) == serialise(model, SMALL)


def test_parsing_copies_nothing_and_can_not_change_the_bytes() -> None:
    parsed = parse(memoryview(GOOD), SMALL)
    assert all(np.shares_memory(array, np.frombuffer(GOOD, np.uint8)) for array in parsed.values())
    assert not any(array.flags.writeable for array in parsed.values())


@pytest.mark.parametrize(
    "wrong", [{}, drawn(0) | {"a.bias": np.zeros(3)}, drawn(0) | {"a.bias": np.zeros(2, np.float32)}]
)
def test_serialise_refuses_other_arrays(wrong: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="layout"):
        serialise(wrong, SMALL)


def test_metadata_and_another_order_of_tensors_are_legal() -> None:
    def change(header: dict[str, dict[str, object]]) -> None:
        header["__metadata__"] = {"format": "pt"}
        header["a.bias"] = header.pop("a.bias")

    assert parse(with_header(change), SMALL)["a.bias"].tobytes() == drawn(0)["a.bias"].tobytes()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "length is wrong"),
        (b"garbage", "length is wrong"),
        (b"\xff" * 64, "length is wrong"),
        ((2**40).to_bytes(8, "little") + b"{}", "length is wrong"),
        ((4).to_bytes(8, "little") + b"nope" * 9, "can't be read"),
        ((2).to_bytes(8, "little") + b"{}", "lacks the tensor a.bias"),
        ((8 + 8000).to_bytes(8, "little") + b" " * 8008, "length is wrong"),
        (GOOD[:-1], "cut short"),
        (GOOD + b"\0", "bytes after its last tensor"),
        (with_header(lambda header: header.pop("scale")), "lacks the tensor scale"),
        (with_header(lambda header: header.update(more=header["scale"])), "4 tensors, and 3"),
        (with_header(lambda header: header["scale"].update(dtype="F64")), "scale is not of type F32"),
        (with_header(lambda header: header["scale"].update(shape=[1])), r"scale is not of shape \[\]"),
        (with_header(lambda header: header["scale"].update(shape=[-1])), "can't be read"),
        (with_header(lambda header: header["scale"].update(data_offsets=[0, 4])), "overlap or leave a gap"),
        (
            with_header(lambda header: header["scale"].update(data_offsets=[40, 44]), b"\0" * 4),
            "overlap or leave a gap",
        ),
        (with_header(lambda header: header["scale"].update(data_offsets=[36, 44]), b"\0" * 4), "not as many bytes"),
        (with_header(lambda header: header["scale"].update(data_offsets=[40, 36])), "not as many bytes"),
    ],
)
def test_what_is_no_model_of_the_layout_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(RemoteError, match=reason):
        parse(content, SMALL)


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_every_cut_is_refused(length: int) -> None:
    with pytest.raises(RemoteError):
        parse(GOOD[:length], SMALL)


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_what_passes_with_a_changed_byte_is_what_the_library_reads(place: int, change: int) -> None:
    content = bytearray(GOOD)
    content[place] ^= change
    try:
        ours = parse(bytes(content), SMALL)
    except RemoteError:
        return
    theirs = safetensors.numpy.load(bytes(content))
    assert {name: array.tobytes() for name, array in ours.items()} == {
        name: array.tobytes() for name, array in theirs.items()
    }


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_raise_nothing_else(content: bytes) -> None:
    with pytest.raises(RemoteError):
        parse(content, SMALL)


@given(st.binary(max_size=100))
def test_any_header_is_refused_where_the_library_refuses_it(header: bytes) -> None:
    content = len(header).to_bytes(8, "little") + header
    layout = (TensorLayout("", "F32", (0,)),)
    try:
        parse(content, layout)
    except RemoteError:
        return
    try:
        safetensors.numpy.load(content)
    except SafetensorError as error:
        pytest.fail(f"the library refuses it: {error}")
