"""Each robust strategy equals its definition, written down in the plainest way, and bears the attackers it promises."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from appliance.aggregation.numbers import in_memory
from appliance.aggregation.strategies import strategy_for
from appliance.aggregation.tensors import Arrays
from appliance.words.models import MOST_SAMPLES, ModelLayout, TensorLayout
from appliance.words.settings import Aggregation
from tests.unit.aggregation.layouts import drawn, models
from tests.unit.aggregation.test_strategies import FINITE, ROBUST, Updates, result

Matrix = NDArray[np.float64]
"""One model in each row."""

LARGE: ModelLayout = (TensorLayout("a", "F32", (300, 1001)), TensorLayout("b", "F32", (33_000,)))
"""Of several chunks, the last of which is not full."""

WEIGHTS = st.floats(-100, 100, width=32)
WHOLE = st.integers(-10_000, 10_000).map(float)
"""With these all distances are exact."""
LARGEST = float(np.finfo(np.float32).max)
FAR = st.builds(lambda value, sign: value * sign, st.floats(1024, LARGEST, width=32), st.sampled_from([1.0, -1.0]))
HOSTILE = st.lists(st.tuples(models(FINITE), st.integers(1, MOST_SAMPLES)), min_size=2, max_size=2)


def flat(models: Sequence[Arrays]) -> Matrix:
    rows = [np.concatenate([model[name].reshape(-1) for name in sorted(model)]) for model in models]
    return np.stack(rows).astype(np.float64)


def reference(name: str, updates: Updates, attackers: int, base: Arrays) -> Matrix:
    """The definitions, with NumPy's own functions on float64."""
    values, samples = flat([arrays for arrays, _ in updates]), np.array([count for _, count in updates])
    match name:
        case "median":
            return np.asarray(np.median(values, axis=0))
        case "trimmed-mean":
            return np.asarray(np.sort(values, axis=0)[attackers : len(values) - attackers].mean(axis=0))
        case "krum":
            scores, chosen = krum_scores(values, attackers), len(values) - attackers - 2
            return np.asarray(values[np.argsort(scores, kind="stable")[:chosen]].mean(axis=0))
        case _:
            start = flat([base])[0]
            norms = np.linalg.norm(values - start, axis=1)
            scale = np.minimum(1.0, np.sort(norms)[(len(norms) - 1) // 2] / np.maximum(norms, 1e-300))
            clipped = start + (values - start) * scale[:, None]
            most = np.sort(samples)[(len(samples) - 1) // 2]
            return np.asarray(np.average(clipped, axis=0, weights=np.minimum(samples, most)))


def krum_scores(values: Matrix, attackers: int) -> Matrix:
    distances = np.square(values[:, None] - values[None]).sum(axis=2)
    return np.asarray(np.sort(distances, axis=1)[:, 1 : len(values) - attackers - 1].sum(axis=1))


def close(made: Arrays, expected: Matrix, largest: float) -> bool:
    """Whether it is as expected, but for the rounding of float32 numbers as large as the largest that took part."""
    return bool(np.allclose(flat([made])[0], expected, rtol=1e-6, atol=1e-6 * largest))


@given(
    name=st.sampled_from(["median", "trimmed-mean", "norm-clipping"]),
    updates=st.lists(st.tuples(models(WEIGHTS), st.integers(1, 10**6)), min_size=5, max_size=9),
    attackers=st.integers(1, 2),
    base=models(WEIGHTS),
)
def test_the_result_is_the_definition(name: str, updates: Updates, attackers: int, base: Arrays) -> None:
    made = result(name, updates, attackers, base)
    largest = float(np.abs(flat([base, *(arrays for arrays, _ in updates)])).max())
    assert close(made, reference(name, updates, attackers, base), largest)


@given(
    updates=st.lists(st.tuples(models(WHOLE), st.integers(1, 10**6)), min_size=7, max_size=9),
    attackers=st.integers(1, 2),
)
def test_krum_takes_the_updates_of_the_least_scores(updates: Updates, attackers: int) -> None:
    values = flat([arrays for arrays, _ in updates])
    scores, chosen = np.sort(krum_scores(values, attackers)), len(updates) - attackers - 2
    assume(scores[chosen - 1] < scores[chosen])  # else which one is taken is not defined
    expected = reference("krum", updates, attackers, {})
    assert close(result("krum", updates, attackers), expected, float(np.abs(values).max()))


@pytest.mark.parametrize("name", ROBUST)
@pytest.mark.parametrize("count", [5, 6])
def test_models_of_several_chunks(name: str, count: int) -> None:
    updates, base = [(drawn(seed, LARGE), 10 * seed) for seed in range(1, count + 1)], drawn(0, LARGE)
    made = strategy_for(Aggregation(name), LARGE, lambda: base)  # type: ignore[arg-type]
    for arrays, samples in updates:
        made.add(in_memory(arrays), samples)
    assert close(made.result(), reference(name, updates, 1, base), 5.0)


@given(
    name=st.sampled_from(["median", "trimmed-mean"]),
    attackers=st.integers(1, 3),
    data=st.data(),
)
def test_hostile_updates_never_move_a_number_out_of_the_honest_range(
    name: str, attackers: int, data: st.DataObject
) -> None:
    honest = data.draw(st.lists(models(FINITE), min_size=attackers + 1, max_size=attackers + 4))
    hostile = data.draw(st.lists(models(FINITE), min_size=attackers, max_size=attackers))
    made = flat([result(name, [(arrays, 1) for arrays in honest + hostile], attackers)])[0]
    assert (made >= flat(honest).min(axis=0)).all()
    assert (made <= flat(honest).max(axis=0)).all()


@given(attackers=st.integers(1, 3), seed=st.integers(0, 1000), agree=st.booleans(), data=st.data())
def test_krum_takes_none_of_the_far_ones_even_if_they_agree(
    attackers: int, seed: int, agree: bool, data: st.DataObject
) -> None:
    honest = [drawn(seed + number) for number in range(attackers + 3)]
    hostile = data.draw(st.lists(models(FAR), min_size=attackers, max_size=attackers))
    if agree:
        hostile = hostile[:1] * attackers
    made = flat([result("krum", [(arrays, MOST_SAMPLES) for arrays in hostile + honest], attackers)])[0]
    assert (made >= flat(honest).min(axis=0)).all()
    assert (made <= flat(honest).max(axis=0)).all()


@given(hostile=HOSTILE, seed=st.integers(0, 1000), more=st.integers(0, 3))
def test_clipping_moves_the_base_no_further_than_the_furthest_honest_update(
    hostile: Updates, seed: int, more: int
) -> None:
    base = drawn(seed)
    honest = [{name: base[name] + drawn(seed + i)[name] for name in base} for i in range(1, 4 + more)]
    start = flat([base])[0]
    furthest = float(np.linalg.norm(flat(honest) - start, axis=1).max())
    updates = [(arrays, 100 * number) for number, arrays in enumerate(honest, start=1)]
    made = flat([result("norm-clipping", updates + hostile, 2, base)])[0]
    assert np.linalg.norm(made - start) <= furthest * (1 + 1e-5)


@given(hostile=HOSTILE, base=models(FINITE))
def test_where_the_honest_stand_still_clipping_stands_still(hostile: Updates, base: Arrays) -> None:
    made = result("norm-clipping", [*[(base, 100)] * 3, *hostile], 2, base)
    assert all(np.array_equal(made[name], base[name]) for name in base)


def test_the_share_of_hostile_updates_under_clipping_is_bounded_by_the_median_count() -> None:
    base = {name: np.zeros_like(array) for name, array in drawn(0).items()}
    step = {name: np.ones_like(array) for name, array in base.items()}
    hostile = {name: np.full_like(array, -1e30) for name, array in base.items()}
    equal = result("norm-clipping", [(step, 100)] * 4 + [(hostile, MOST_SAMPLES)], 1, base)
    assert np.allclose(flat([equal]), (4 - 1) / 5), "of five equal shards one has a fifth"
    skewed = result("norm-clipping", [(step, 1), (step, 1), (step, 100), (step, 100), (hostile, MOST_SAMPLES)], 1, base)
    assert np.allclose(flat([skewed]), (202 - 100) / 302), "a third at the very most"


@pytest.mark.parametrize("name", ["mean", *ROBUST])
def test_a_sign_flipped_update_turns_only_the_mean_around(name: str) -> None:
    base, direction = drawn(0), drawn(1)
    honest = [{key: base[key] + direction[key] + 0.1 * drawn(seed)[key] for key in base} for seed in range(2, 6)]
    flipped = {key: base[key] - 10 * direction[key] for key in base}
    made = result(name, [(arrays, 100) for arrays in [*honest, flipped]], 1, base)
    forward = float((flat([made]) - flat([base]))[0] @ flat([direction])[0] / (flat([direction]) ** 2).sum())
    assert forward < -1 if name == "mean" else 0.5 < forward < 1.2


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "norm-clipping"])
def test_the_largest_floats_have_a_mean(name: str) -> None:
    largest = {key: np.full_like(array, LARGEST) for key, array in drawn(0).items()}
    lowest = {key: -array for key, array in largest.items()}
    for updates in ([largest] * 4, [largest, largest, lowest, lowest]):
        made = result(name, [(arrays, MOST_SAMPLES) for arrays in updates], 1, lowest)
        assert np.isfinite(flat([made])).all()
