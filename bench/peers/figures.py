"""Figures of several runs of one contender. Pure."""

import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.peers.contender import Model
from bench.peers.measure import Samples

WARM_UP_ROUNDS = 1
GOALS = (0.9604, 0.97)
"""The paper's aggregated accuracy (Table I), and one that takes some rounds more."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of all runs of one contender.

    Attributes:
        round_s: median seconds of a round, of all runs' rounds together.
        fastest_s: of one round.
        rounds: how many these are of.
        goals_s: for each of GOALS the median over runs of the seconds that it took; None if a run did not reach it.
        accuracy: after the last round, median over runs.
        started_s, pss_mb, rss_mb, mb_a_round: medians over runs.
    """

    round_s: float
    fastest_s: float
    rounds: int
    goals_s: tuple[float | None, ...]
    accuracy: float
    started_s: float
    pss_mb: float
    rss_mb: float
    mb_a_round: float


def figures(runs: Sequence[Samples]) -> Figures:
    """Return the figures of at least one run of at least two rounds."""
    rounds = [seconds for run in runs for seconds in seconds_of_rounds(run.models)[WARM_UP_ROUNDS:]]
    return Figures(
        round_s=statistics.median(rounds),
        fastest_s=min(rounds),
        rounds=len(rounds),
        goals_s=tuple(_median_if_all(seconds_to(run.models, goal) for run in runs) for goal in GOALS),
        accuracy=statistics.median(run.models[-1].accuracy or 0.0 for run in runs),
        started_s=statistics.median(run.started_s for run in runs),
        pss_mb=statistics.median(run.memory.pss for run in runs),
        rss_mb=statistics.median(run.memory.rss for run in runs),
        mb_a_round=statistics.median(run.bytes_a_round for run in runs) / 1e6,
    )


def seconds_of_rounds(models: Sequence[Model]) -> list[float]:
    """Return the seconds from each model to the next."""
    return [later.at - earlier.at for earlier, later in itertools.pairwise(models)]


def seconds_to(models: Sequence[Model], accuracy: float) -> float | None:
    """Return the seconds from the first model to the first that is as good; None if none is."""
    good = (model.at for model in models if model.accuracy is not None and model.accuracy >= accuracy)
    first = next(good, None)
    return None if first is None else first - models[0].at


def _median_if_all(values: Iterable[float | None]) -> float | None:
    known = list(values)
    numbers = [value for value in known if value is not None]
    return statistics.median(numbers) if len(numbers) == len(known) else None
