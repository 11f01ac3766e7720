"""A global model is the network alone or with a whole state; nothing else gets through, and an update has no state."""

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from appliance.aggregation.state import has_state, parse_model, serialise_model, state_name
from appliance.aggregation.tensors import Arrays, serialise
from appliance.aggregation.validation import parse_update
from appliance.words.errors import RemoteError
from tests.unit.aggregation.layouts import SMALL, drawn


def moment(which: str, seed: int) -> Arrays:
    return {f"aggregation.{which}/{name}": array for name, array in drawn(seed).items()}


MODELS = [drawn(0), drawn(0) | moment("first", 1), drawn(0) | moment("first", 1) | moment("second", 2)]
FULL = serialise_model(MODELS[2], SMALL)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_comes_back_with_its_state_as_the_library_writes_it(model: Arrays) -> None:
    content = serialise_model(model, SMALL)
    parsed = parse_model(content, SMALL)
    assert {name: array.tobytes() for name, array in parsed.items()} == {
        name: array.tobytes() for name, array in model.items()
    }
    assert content == safetensors.numpy.save(model)


def test_a_model_without_state_has_the_bytes_that_it_always_had() -> None:
    assert serialise_model(MODELS[0], SMALL) == serialise(MODELS[0], SMALL)


def test_whether_there_is_a_state_and_which() -> None:
    moments = [(), ("first",), ("first", "second")]
    found = [[has_state(model, each, SMALL) for each in moments] for model in MODELS]  # type: ignore[arg-type]
    assert np.array_equal(found, np.eye(3))
    assert state_name("first", "a.bias") in MODELS[1]


WRONG = {
    "no network": moment("first", 1),
    "the second moment alone": drawn(0) | moment("second", 1),
    "an unknown moment": drawn(0) | moment("first", 1) | moment("third", 2),
    "an unknown tensor": drawn(0) | {"more": np.zeros(3, np.float32)},
    "a state of another network": drawn(0) | {f"aggregation.first/{name}": np.zeros(1, np.float32) for name in "abc"},
    "half a state": drawn(0) | dict(list(moment("first", 1).items())[:2]),
    "a moment and a half": drawn(0) | moment("first", 1) | dict(list(moment("second", 1).items())[:2]),
    "a state and more": MODELS[2] | {"more": np.zeros(3, np.float32)},
    "another shape": MODELS[1] | {"aggregation.first/a.bias": np.zeros(2, np.float32)},
    "another type": MODELS[1] | {"aggregation.first/a.bias": np.zeros(3, np.float64)},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_all_else_is_refused_and_can_not_be_written(wrong: Arrays) -> None:
    with pytest.raises(RemoteError):
        parse_model(safetensors.numpy.save(wrong), SMALL)
    with pytest.raises((ValueError, KeyError)):
        serialise_model(wrong, SMALL)


@pytest.mark.parametrize("model", MODELS[1:])
def test_an_update_with_state_is_refused(model: Arrays) -> None:
    parse_update(serialise_model(MODELS[0], SMALL), SMALL)
    with pytest.raises(RemoteError, match="tensors, and 3 are expected"):
        parse_update(serialise_model(model, SMALL), SMALL)


def test_a_header_longer_than_any_state_needs_is_refused_unread() -> None:
    length = int.from_bytes(FULL[:8], "little")
    names = {f"aggregation.first/{number}": json.loads(FULL[8 : 8 + length])["scale"] for number in range(1000)}
    text = json.dumps(names).encode()
    with pytest.raises(RemoteError, match="header's length is wrong"):
        parse_model(len(text).to_bytes(8, "little") + text + FULL[8 + length :], SMALL)


@pytest.mark.parametrize("length", range(0, len(FULL), 7))
def test_every_cut_is_refused(length: int) -> None:
    with pytest.raises(RemoteError):
        parse_model(FULL[:length], SMALL)


@given(st.integers(0, len(FULL) - 1), st.integers(1, 255))
def test_what_passes_with_a_changed_byte_has_the_known_names_and_the_librarys_values(place: int, change: int) -> None:
    content = bytearray(FULL)
    content[place] ^= change
    try:
        ours = parse_model(bytes(content), SMALL)
    except RemoteError:
        return
    theirs = safetensors.numpy.load(bytes(content))
    assert ours.keys() == MODELS[2].keys()
    assert {name: array.tobytes() for name, array in ours.items()} == {
        name: array.tobytes() for name, array in theirs.items()
    }
