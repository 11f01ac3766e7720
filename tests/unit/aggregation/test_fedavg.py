"""FedAvg equals its formula in exact arithmetic, and does not depend on the order of the updates."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.aggregation.fedavg import FedAvg
from appliance.aggregation.numbers import in_memory
from appliance.aggregation.tensors import Arrays, serialise
from appliance.words.models import TensorLayout
from tests.unit.aggregation.layouts import SMALL, drawn, models

WEIGHTS = st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-10)
UPDATES = st.lists(st.tuples(models(WEIGHTS), st.integers(1, 2**28)), min_size=1, max_size=6)


def average(updates: list[tuple[Arrays, int]]) -> Arrays:
    """Return what FedAvg says."""
    mean = FedAvg(SMALL)
    for arrays, samples in updates:
        mean.add(in_memory(arrays), samples)
    return mean.result()


def reference(updates: list[tuple[Arrays, int]]) -> Arrays:
    """McMahan et al. 2017, Algorithm 1: w = sum over k of n_k / n * w_k; the sum is exact, and rounded at the end."""
    total = sum(samples for _, samples in updates)
    result = {}
    for tensor in SMALL:
        columns = zip(*(arrays[tensor.name].reshape(-1).tolist() for arrays, _ in updates), strict=True)
        exact = [
            sum((Fraction(value) * samples for value, (_, samples) in zip(values, updates, strict=True)), Fraction(0))
            for values in columns
        ]
        mean = np.array([float(number) / total for number in exact], np.float64)
        result[tensor.name] = mean.astype(np.float32).reshape(tensor.shape)
    return result


@given(UPDATES)
def test_the_result_is_the_formula_bit_for_bit(updates: list[tuple[Arrays, int]]) -> None:
    assert serialise(average(updates), SMALL) == serialise(reference(updates), SMALL)


@given(UPDATES, st.randoms(use_true_random=False))
def test_order_does_not_matter_bit_for_bit(updates: list[tuple[Arrays, int]], random: object) -> None:
    shuffled = list(updates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert serialise(average(shuffled), SMALL) == serialise(average(updates), SMALL)


def test_order_does_not_matter_where_float64_alone_would_round() -> None:
    layout = (TensorLayout("w", "F32", (100_000,)),)
    random = np.random.default_rng(0)
    updates = [(drawn(seed, layout), int(random.integers(1, 2**29))) for seed in range(12)]
    forward, backward = FedAvg(layout), FedAvg(layout)
    for ahead, behind in zip(updates, reversed(updates), strict=True):
        forward.add(in_memory(ahead[0]), ahead[1])
        backward.add(in_memory(behind[0]), behind[1])
    assert serialise(forward.result(), layout) == serialise(backward.result(), layout)


@given(models(WEIGHTS), st.lists(st.integers(1, 10**6), min_size=1, max_size=5))
def test_the_mean_of_one_model_is_that_model(model: Arrays, counts: list[int]) -> None:
    result = average([(model, samples) for samples in counts])
    assert all(np.array_equal(result[name], model[name]) for name in model)


def test_it_can_go_on_after_a_result() -> None:
    mean = FedAvg(SMALL)
    mean.add(in_memory(drawn(1)), 10)
    first = mean.result()
    mean.add(in_memory(drawn(2)), 30)
    expected = average([(drawn(1), 10), (drawn(2), 30)])
    assert serialise(mean.result(), SMALL) == serialise(expected, SMALL)
    assert all(np.array_equal(first[name], drawn(1)[name]) for name in first)
    assert all(array.dtype == np.float32 for array in mean.result().values())


def test_the_updates_own_arrays_are_left_alone() -> None:
    model = drawn(1)
    average([(model, 7), (drawn(2), 5)])
    assert all(np.array_equal(model[name], drawn(1)[name]) for name in model)


def test_the_largest_floats_and_counts_do_not_overflow() -> None:
    largest = {name: np.full_like(array, np.finfo(np.float32).max) for name, array in drawn(0).items()}
    result = average([(largest, 10**12), (largest, 10**12)])
    assert all(np.array_equal(result[name], largest[name]) for name in largest)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {name: array for name, array in drawn(0).items() if name != "scale"},
        drawn(0) | {"scale": np.zeros(2, np.float32)},
    ],
)
def test_another_model_is_refused_and_adds_nothing(wrong: Arrays) -> None:
    mean = FedAvg(SMALL)
    mean.add(in_memory(drawn(1)), 1)
    with pytest.raises(ValueError, match="missing or has not"):
        mean.add(in_memory(wrong), 1)
    assert all(np.array_equal(array, drawn(1)[name]) for name, array in mean.result().items())


def test_no_samples_no_updates_no_other_types() -> None:
    with pytest.raises(ValueError, match="has no weight"):
        FedAvg(SMALL).add(in_memory(drawn(1)), 0)
    with pytest.raises(ValueError, match="no update"):
        FedAvg(SMALL).result()
    with pytest.raises(ValueError, match="only F32"):
        FedAvg((TensorLayout("steps", "I64", (1,)),))
