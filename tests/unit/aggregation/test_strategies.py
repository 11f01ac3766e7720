"""What holds for every strategy, whatever finite numbers and counts the updates bring."""

import itertools
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.aggregation.numbers import in_memory
from appliance.aggregation.state import parse_model, serialise_model
from appliance.aggregation.strategies import strategy_for
from appliance.aggregation.strategy import Strategy
from appliance.aggregation.tensors import Arrays, serialise
from appliance.aggregation.validation import check_samples, is_finite, parse_update
from appliance.words.models import MOST_SAMPLES, TensorLayout
from appliance.words.settings import SERVER_OPTIMIZERS, Aggregation
from tests.unit.aggregation.layouts import SMALL, drawn, models

NAMES = get_args(next(iter(Aggregation.__annotations__.values())))
ROBUST = [name for name in NAMES if Aggregation(name).bears]
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
COUNTS = st.integers(1, MOST_SAMPLES)
Updates = list[tuple[Arrays, int]]


def strategy(name: str, attackers: int = 1, base: Arrays | None = None) -> Strategy:
    settings = Aggregation(name, attackers)  # type: ignore[arg-type]
    return strategy_for(settings, SMALL, lambda: drawn(0) if base is None else base)


def result(name: str, updates: Updates, attackers: int = 1, base: Arrays | None = None) -> Arrays:
    made = strategy(name, attackers, base)
    for arrays, samples in updates:
        made.add(in_memory(arrays), samples)
    return made.result()


def least(name: str, attackers: int = 1) -> int:
    return Aggregation(name, attackers).least_updates  # type: ignore[arg-type]


def test_every_name_of_the_configuration_has_a_strategy() -> None:
    assert [type(strategy(name)).__name__ for name in NAMES] == [
        "FedAvg",
        "Median",
        "TrimmedMean",
        "Krum",
        "NormClipping",
        "FedAvgM",
        "FedAdam",
        "FedYogi",
    ]
    assert [least(name, 2) for name in NAMES] == [1, 5, 5, 7, 5, 1, 1, 1]


@pytest.mark.parametrize("name", NAMES)
@given(updates=st.lists(st.tuples(models(FINITE), COUNTS), min_size=5, max_size=8), base=models(FINITE))
def test_what_can_be_sent_gives_a_model_that_can_be_sent(name: str, updates: Updates, base: Arrays) -> None:
    """Also the largest floats, denormals and negative zeros, with any counts: no infinity, no NaN, no warning."""
    for arrays, samples in updates:
        check_samples(samples)
        parse_update(serialise(arrays, SMALL), SMALL)
    made = result(name, updates, base=base)
    assert all(is_finite(array) for array in made.values())
    parse_model(serialise_model(made, SMALL), SMALL)
    parse_update(serialise({tensor.name: made[tensor.name] for tensor in SMALL}, SMALL), SMALL)


@pytest.mark.parametrize("name", ROBUST)
@given(
    updates=st.lists(st.tuples(models(FINITE), COUNTS), min_size=5, max_size=8),
    base=models(FINITE),
    random=st.randoms(use_true_random=False),
)
def test_order_does_not_matter_bit_for_bit(name: str, updates: Updates, base: Arrays, random: object) -> None:
    shuffled = list(updates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert serialise(result(name, shuffled, base=base), SMALL) == serialise(result(name, updates, base=base), SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_order_does_not_matter_between_zero_and_negative_zero(name: str) -> None:
    zeros = [({name: np.full_like(a, sign) for name, a in drawn(0).items()}, 10) for sign in (0.0, 0.0, -0.0, -0.0, 1)]
    made = {serialise_model(result(name, list(order)), SMALL) for order in itertools.permutations(zeros)}
    assert len(made) == 1


def test_order_does_not_matter_among_equal_scores() -> None:
    steps = [({name: np.full_like(a, step) for name, a in drawn(0).items()}, 10) for step in range(5)]
    made = {serialise(result("krum", list(order)), SMALL) for order in itertools.permutations(steps)}
    assert len(made) == 1, "1, 2 and 3 are all as near to two others, and two of them are taken"


@pytest.mark.parametrize("name", ["mean", *ROBUST])
@given(model=models(FINITE), counts=st.lists(COUNTS, min_size=5, max_size=7), base=models(FINITE))
def test_of_equal_updates_the_result_is_that_update(name: str, model: Arrays, counts: list[int], base: Arrays) -> None:
    made = result(name, [(model, samples) for samples in counts], base=base)
    assert all(np.array_equal(made[key], model[key]) for key in model)


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum"])
def test_a_sample_count_buys_no_weight(name: str) -> None:
    modest = [(drawn(seed), 10) for seed in range(5)]
    absurd = [(drawn(0), MOST_SAMPLES), *modest[1:]]
    assert serialise(result(name, absurd), SMALL) == serialise(result(name, modest), SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_arrays_are_left_alone_and_another_model_is_refused(name: str) -> None:
    updates = [(drawn(seed), 10) for seed in range(5)]
    made = strategy(name)
    for arrays, samples in updates:
        made.add(in_memory(arrays), samples)
    for wrong in ({}, drawn(9) | {"scale": np.zeros(2, np.float32)}):
        with pytest.raises(ValueError, match="missing or has not"):
            made.add(in_memory(wrong), 10)
    with pytest.raises(ValueError, match="has no weight"):
        made.add(in_memory(drawn(9)), 0)
    before = serialise_model(made.result(), SMALL)
    assert before == serialise_model(made.result(), SMALL)
    for seed, (arrays, _) in enumerate(updates):
        assert serialise(arrays, SMALL) == serialise(drawn(seed), SMALL)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("attackers", [1, 2])
def test_with_too_few_updates_there_is_no_result(name: str, attackers: int) -> None:
    enough = [(drawn(seed), 10) for seed in range(least(name, attackers))]
    result(name, enough, attackers)
    with pytest.raises(ValueError, match=r"no update was added|updates were added, and this strategy needs"):
        result(name, enough[1:], attackers)


@pytest.mark.parametrize("name", NAMES)
def test_only_float32_is_taken(name: str) -> None:
    with pytest.raises(ValueError, match="only F32"):
        strategy_for(Aggregation(name), (TensorLayout("steps", "I64", (1,)),), dict)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_no_network_may_use_the_names_of_state(name: str) -> None:
    with pytest.raises(ValueError, match=r"begin with aggregation\. are for a strategy's state"):
        strategy_for(Aggregation(name), (TensorLayout("aggregation.first/w", "F32", (1,)),), dict)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
def test_only_those_that_need_the_base_ask_for_it(name: str) -> None:
    asked: list[str] = []

    def base() -> Arrays:
        asked.append(name)
        return drawn(0)

    strategy_for(Aggregation(name), SMALL, base)  # type: ignore[arg-type]
    assert asked == ([name] if name in ("norm-clipping", *SERVER_OPTIMIZERS) else [])


def test_norm_clipping_takes_a_base_with_another_strategys_state() -> None:
    updates = [(drawn(seed), 10) for seed in range(1, 4)]
    with_state = result("fedadam", [(drawn(9), 10)])
    bare = {tensor.name: with_state[tensor.name] for tensor in SMALL}
    expected = serialise(result("norm-clipping", updates, base=bare), SMALL)
    assert serialise(result("norm-clipping", updates, base=with_state), SMALL) == expected
