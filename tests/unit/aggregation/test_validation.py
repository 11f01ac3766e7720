"""An update that may count is finite and stands for samples."""

import numpy as np
import pytest

from appliance.aggregation.tensors import serialise
from appliance.aggregation.validation import check_samples, is_finite, parse_update
from appliance.words.errors import RemoteError
from appliance.words.models import MOST_SAMPLES
from tests.unit.aggregation.layouts import SMALL, drawn


def test_a_sound_update_is_returned_as_it_is() -> None:
    model = drawn(3)
    parsed = parse_update(serialise(model, SMALL), SMALL)
    assert all(np.array_equal(parsed[name], model[name]) for name in model)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a.bias", "a.weight", "scale"])
def test_a_value_that_is_not_finite_is_refused_by_the_name_of_its_tensor(name: str, value: float) -> None:
    model = drawn(3)
    model[name].reshape(-1)[-1:] = value
    with pytest.raises(RemoteError, match=f"{name} holds a value that is not finite"):
        parse_update(serialise(model, SMALL), SMALL)


def test_largest_floats_are_finite_and_so_is_nothing() -> None:
    largest = np.finfo(np.float32).max
    assert is_finite(np.array([largest, -largest, 0.0], np.float32))
    assert is_finite(np.empty(0, np.float32))


@pytest.mark.parametrize("samples", [1, 12_000, MOST_SAMPLES])
def test_credible_sample_counts_pass(samples: int) -> None:
    check_samples(samples)


@pytest.mark.parametrize("samples", [-1, 0, MOST_SAMPLES + 1])
def test_other_sample_counts_are_refused(samples: int) -> None:
    with pytest.raises(RemoteError, match="must stand for 1 to"):
        check_samples(samples)
