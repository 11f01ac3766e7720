"""The server optimizers equal their papers' formulas over several rounds; their state travels in the model."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.aggregation.numbers import in_memory
from appliance.aggregation.state import parse_model, serialise_model, state_name
from appliance.aggregation.strategies import strategy_for
from appliance.aggregation.tensors import Arrays
from appliance.aggregation.validation import is_finite
from appliance.words.models import MOST_SAMPLES, ModelLayout, TensorLayout
from appliance.words.settings import SERVER_OPTIMIZERS, Aggregation
from tests.unit.aggregation.layouts import SMALL, drawn, models
from tests.unit.aggregation.test_fedavg import WEIGHTS
from tests.unit.aggregation.test_strategies import FINITE, Updates

LARGE: ModelLayout = (TensorLayout("a", "F32", (300, 1001)), TensorLayout("b", "F32", (33_000,)))
"""Of several chunks, the last of which is not full."""
LARGEST = float(np.finfo(np.float32).max)
ADAPTIVE = ("fedadam", "fedyogi")


def settings(name: str, **numbers: float) -> Aggregation:
    return Aggregation(name, **numbers)  # type: ignore[arg-type]


def one_round(chosen: Aggregation, base: bytes, updates: Updates, layout: ModelLayout = SMALL) -> bytes:
    """Do a round as a leader does that knows of the rounds before it nothing but the base model's bytes."""
    strategy = strategy_for(chosen, layout, lambda: parse_model(base, layout))
    for arrays, samples in updates:
        strategy.add(in_memory(arrays), samples)
    return serialise_model(strategy.result(), layout)


@dataclass
class Reference:
    """The papers' formulas in float64, for one tensor of numbers; its state stays in memory."""

    settings: Aggregation
    model: NDArray[np.float64]
    first: NDArray[np.float64] = field(init=False)
    second: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.first = np.zeros_like(self.model)
        self.second = np.full_like(self.model, self.settings.tau**2)

    def round(self, values: list[NDArray[np.float32]], samples: list[int]) -> None:
        updates = np.stack(values).astype(np.float64)
        change = np.average(updates - self.model, axis=0, weights=samples)
        beta1, beta2 = self.settings.momentum, self.settings.second_momentum
        if self.settings.strategy == "fedavgm":
            # Hsu et al. 2019, FedAvgM: v = beta v + change, w = w + v; here times a server learning rate.
            self.first = beta1 * self.first + change
            self.model = self.model + self.settings.server_step * self.first
            return
        # Reddi et al. 2021, Algorithm 2.
        self.first = beta1 * self.first + (1 - beta1) * change
        if self.settings.strategy == "fedadam":
            self.second = beta2 * self.second + (1 - beta2) * change**2
        else:
            self.second = self.second - (1 - beta2) * change**2 * np.sign(self.second - change**2)
        self.model = self.model + self.settings.server_step * self.first / (np.sqrt(self.second) + self.settings.tau)


def rounds_of(layout: ModelLayout, count: int) -> list[Updates]:
    """Return updates of several rounds, with steps from large to small, so that second moments rise and sink."""
    random = np.random.default_rng(1)
    return [
        [
            (
                {name: array * np.float32(10.0**-number) for name, array in drawn(10 * number + each, layout).items()},
                int(random.integers(1, 1000)),
            )
            for each in range(4)
        ]
        for number in range(count)
    ]


@pytest.mark.parametrize(
    "chosen",
    [
        settings("fedavgm"),
        settings("fedavgm", server_learning_rate=0.3, momentum=0.7),
        settings("fedadam"),
        settings("fedadam", server_learning_rate=0.1, momentum=0.5, second_momentum=0.9, tau=1e-2),
        settings("fedyogi"),
        settings("fedyogi", server_learning_rate=0.1, momentum=0.0, second_momentum=0.5, tau=1e-1),
    ],
)
@pytest.mark.parametrize("layout", [SMALL, LARGE], ids=["small", "large"])
def test_several_rounds_are_the_papers_formula(chosen: Aggregation, layout: ModelLayout) -> None:
    base = drawn(99, layout)
    content = serialise_model(base, layout)
    references = {name: Reference(chosen, array.astype(np.float64)) for name, array in base.items()}
    for updates in rounds_of(layout, 6):
        content = one_round(chosen, content, updates, layout)
        made = parse_model(content, layout)
        for name, reference in references.items():
            reference.round([arrays[name] for arrays, _ in updates], [samples for _, samples in updates])
            assert np.allclose(made[name], reference.model, rtol=1e-5, atol=1e-5)
            assert np.allclose(made[state_name("first", name)], reference.first, rtol=1e-5, atol=1e-5)
            if chosen.strategy in ADAPTIVE:
                assert np.allclose(made[state_name("second", name)], reference.second, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
@given(
    updates=st.lists(st.tuples(models(WEIGHTS), st.integers(1, 2**28)), min_size=2, max_size=6),
    random=st.randoms(use_true_random=False),
)
def test_order_does_not_matter_bit_for_bit(name: str, updates: Updates, random: object) -> None:
    shuffled = list(updates)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    base = one_round(settings(name), serialise_model(drawn(0), SMALL), [(drawn(1), 5)])
    assert one_round(settings(name), base, shuffled) == one_round(settings(name), base, updates)


@given(updates=st.lists(st.tuples(models(WEIGHTS), st.integers(1, 2**28)), min_size=1, max_size=4))
def test_without_momentum_fedavgm_is_fedavg(updates: Updates) -> None:
    base = serialise_model(drawn(0), SMALL)
    made = parse_model(one_round(settings("fedavgm", momentum=0.0), base, updates), SMALL)
    mean = parse_model(one_round(settings("mean"), base, updates), SMALL)
    assert all(np.allclose(made[name], mean[name], rtol=0, atol=1e-14) for name in mean)


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
def test_where_nobody_moves_and_nothing_rolls_the_model_stands_still(name: str) -> None:
    base = serialise_model(drawn(0), SMALL)
    made = parse_model(one_round(settings(name), base, [(drawn(0), 3), (drawn(0), 5)]), SMALL)
    assert all(np.array_equal(made[key], array) for key, array in drawn(0).items())


@pytest.mark.parametrize("name", ["fedavgm", *ADAPTIVE])
@pytest.mark.parametrize("before", ["mean", "median", "fedavgm", "fedadam", "fedyogi"])
def test_a_change_of_strategy_begins_anew_unless_the_state_means_the_same(name: str, before: str) -> None:
    updates = [(drawn(seed), 10) for seed in range(1, 4)]
    base = one_round(settings(before), serialise_model(drawn(0), SMALL), updates)
    parsed = parse_model(base, SMALL)
    bare = serialise_model({tensor.name: parsed[tensor.name] for tensor in SMALL}, SMALL)
    goes_on = one_round(settings(name), base, updates) != one_round(settings(name), bare, updates)
    assert goes_on == (before == name or {before, name} == set(ADAPTIVE))


@pytest.mark.parametrize("before", SERVER_OPTIMIZERS)
def test_a_strategy_without_state_drops_it(before: str) -> None:
    updates = [(drawn(1), 10)]
    base = one_round(settings(before), serialise_model(drawn(0), SMALL), updates)
    assert one_round(settings("mean"), base, updates) == serialise_model(drawn(1), SMALL)


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
@given(data=st.data())
def test_finite_numbers_make_a_finite_model_whatever_the_state(name: str, data: st.DataObject) -> None:
    """The largest floats overflow as squares and sums; no infinity, no NaN and no warning comes of it."""
    first, second = data.draw(models(FINITE)), data.draw(models(FINITE))
    base = {**data.draw(models(FINITE)), **{state_name("first", key): array for key, array in first.items()}}
    if name in ADAPTIVE:
        base |= {state_name("second", key): np.abs(array) for key, array in second.items()}
    chosen = settings(name, server_learning_rate=1e9, momentum=0.999, tau=1e-9)
    updates = data.draw(st.lists(st.tuples(models(FINITE), st.integers(1, MOST_SAMPLES)), min_size=1, max_size=3))
    content = serialise_model(base, SMALL)
    for _ in range(3):
        content = one_round(chosen, content, updates)
        made = parse_model(content, SMALL)
        assert all(is_finite(array) for array in made.values())
        assert name == "fedavgm" or all((made[state_name("second", key)] >= 0).all() for key in first)


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
@pytest.mark.parametrize(
    ("moment", "value"), [("first", np.nan), ("first", np.inf), ("second", np.nan), ("second", -1)]
)
def test_state_that_no_step_can_have_made_counts_as_none(name: str, moment: str, value: float) -> None:
    """Else one leader that lies or errs would have spoilt the rounds of all that come after it."""
    if name == "fedavgm" and moment == "second":
        return
    updates = [(drawn(1), 10)]
    base = parse_model(one_round(settings(name), serialise_model(drawn(0), SMALL), updates), SMALL)
    spoilt = {key: array.copy() for key, array in base.items()}
    spoilt[f"aggregation.{moment}/a.weight"][1, 1] = value
    bare = {tensor.name: base[tensor.name] for tensor in SMALL}
    expected = one_round(settings(name), serialise_model(bare, SMALL), updates)
    assert one_round(settings(name), serialise_model(spoilt, SMALL), updates) == expected


def test_the_defaults_are_the_papers() -> None:
    assert [settings(name).server_step for name in SERVER_OPTIMIZERS] == [1.0, 0.01, 0.01]
    assert settings("fedadam", server_learning_rate=0.5).server_step == 0.5
    fresh: Arrays = parse_model(
        one_round(settings("fedyogi"), serialise_model(drawn(0), SMALL), [(drawn(0), 1)]), SMALL
    )
    assert np.allclose(fresh[state_name("second", "scale")], 1e-6), "v begins at tau squared"
