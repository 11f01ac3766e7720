"""Who gets which training sample: seeded, disjoint, complete, and no shard empty. Pure."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def partition(labels: NDArray[np.uint8], shards: int, alpha: float | None, seed: int) -> list[Indices]:
    """Divide samples among shards.

    Args:
        labels: uint8 [samples].
        shards: how many parts; at most as many as there are samples.
        alpha: None for IID; else the concentration of the Dirichlet distribution.
        seed: the same seed gives the same parts.

    Returns:
        for each shard the indices of its samples, ascending.

    Raises:
        ValueError: if there are fewer samples than shards.
    """
    if not 1 <= shards <= labels.size:
        raise ValueError(f"{labels.size} samples can't be divided among {shards} shards")
    random = np.random.default_rng(seed)
    parts = _iid(labels.size, shards, random) if alpha is None else _dirichlet(labels, shards, alpha, random)
    return [np.sort(part) for part in parts]


def _iid(samples: int, shards: int, random: np.random.Generator) -> list[Indices]:
    """Cut a random order into parts that differ by one sample at most."""
    return np.array_split(random.permutation(samples), shards)


def _dirichlet(labels: NDArray[np.uint8], shards: int, alpha: float, random: np.random.Generator) -> list[Indices]:
    """Divide each label by proportions drawn from a symmetric Dirichlet distribution.

    Source: Yurochkin et al. 2019, "Bayesian Nonparametric Federated Learning of Neural Networks", section 4; Hsu, Qi
    and Brown 2019 for what alpha does: the smaller, the fewer labels a shard sees.
    """
    pieces: list[list[Indices]] = [[] for _ in range(shards)]
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        cuts = np.round(np.cumsum(_proportions(shards, alpha, random))[:-1] * members.size).astype(np.int64)
        for shard, piece in enumerate(np.split(members, cuts)):
            pieces[shard].append(piece)
    return _fill_empty([np.concatenate(each) for each in pieces])


def _proportions(shards: int, alpha: float, random: np.random.Generator) -> NDArray[np.float64]:
    proportions: NDArray[np.float64] = random.dirichlet(np.full(shards, alpha))
    if np.isfinite(proportions).all():
        return proportions
    # The limit for alpha to 0, where NumPy's draw underflows to 0/0: one shard gets the whole label.
    whole = np.zeros(shards)
    whole[random.integers(shards)] = 1.0
    return whole


def _fill_empty(parts: list[Indices]) -> list[Indices]:
    """Give each empty shard one sample of the largest; a shard without data could never take part in a round."""
    for empty in (shard for shard, part in enumerate(parts) if part.size == 0):
        largest = max(range(len(parts)), key=lambda shard: parts[shard].size)
        parts[empty], parts[largest] = parts[largest][:1], parts[largest][1:]
    return parts
