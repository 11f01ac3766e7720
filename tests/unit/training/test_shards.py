"""Shards are disjoint, complete, never empty, and the same for a seed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.training.shards import partition

LABELS = st.lists(st.integers(0, 9), min_size=1, max_size=200).map(lambda labels: np.array(labels, np.uint8))
ALPHAS = st.none() | st.sampled_from([1e-300, 1e-6, 0.01, 0.1, 0.5, 1.0, 100.0, 1e6])
TEN_TIMES_600 = np.repeat(np.arange(10, dtype=np.uint8), 600)


@given(LABELS, st.data(), ALPHAS, st.integers(0, 2**63))
def test_shards_are_disjoint_complete_never_empty_and_repeatable(
    labels: np.ndarray, data: st.DataObject, alpha: float | None, seed: int
) -> None:
    shards = data.draw(st.integers(1, labels.size))
    parts = partition(labels, shards, alpha, seed)
    assert len(parts) == shards
    assert all(part.size for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(labels.size))
    again = partition(labels, shards, alpha, seed)
    assert all(np.array_equal(part, same) for part, same in zip(parts, again, strict=True))


@given(LABELS, st.data())
def test_iid_shards_differ_by_one_sample_at_most(labels: np.ndarray, data: st.DataObject) -> None:
    sizes = [part.size for part in partition(labels, data.draw(st.integers(1, labels.size)), None, 0)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("alpha", [None, 0.1])
def test_another_seed_gives_other_shards(alpha: float | None) -> None:
    first, second = (partition(TEN_TIMES_600, 5, alpha, seed) for seed in (0, 1))
    assert not np.array_equal(first[0], second[0])


def skew(alpha: float | None) -> float:
    """Return the share that a shard's commonest label has of it, the mean over 20 seeds of 5 shards."""
    counts = [
        np.bincount(TEN_TIMES_600[part]) for seed in range(20) for part in partition(TEN_TIMES_600, 5, alpha, seed)
    ]
    return float(np.mean([count.max() / count.sum() for count in counts]))


def test_the_smaller_alpha_the_more_a_shard_is_of_one_label() -> None:
    rising = [skew(alpha) for alpha in (1000.0, 1.0, 0.1, 0.01)]
    assert rising == sorted(rising)
    assert skew(None) < 0.13
    assert rising[-1] > 0.5


def test_in_the_limit_of_alpha_each_label_goes_to_one_shard() -> None:
    parts = partition(TEN_TIMES_600, 3, 1e-300, 4)
    sizes = [sum(np.count_nonzero(TEN_TIMES_600[part] == label) > 1 for part in parts) for label in range(10)]
    assert sizes == [1] * 10


def test_more_shards_than_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="can't be divided"):
        partition(np.zeros(3, np.uint8), 4, None, 0)
