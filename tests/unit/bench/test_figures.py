"""The pure parts of the benchmarks: statistics, fits and tables."""

import pytest

from bench import large, scaling
from bench.alone import Usage
from bench.fit import exponent
from bench.peers.contender import Model
from bench.peers.figures import figures, seconds_of_rounds, seconds_to
from bench.peers.measure import Recovery, Samples
from bench.peers.table import Entry, recovery, table


def models(*seconds: float, accuracies: tuple[float, ...] = ()) -> tuple[Model, ...]:
    """Return models at these times; judged as good as said, else not at all."""
    judged = [*accuracies, *[None] * (len(seconds) - len(accuracies))]
    return tuple(Model(round_, at, judged[round_]) for round_, at in enumerate(seconds))


def run(*seconds: float, accuracies: tuple[float, ...] = (), pss: float = 100.0, sent: float = 2e6) -> Samples:
    """Return a run."""
    return Samples(models(*seconds, accuracies=accuracies), 5.0, Usage(pss, 2 * pss), sent, (1.0, 2.0))


def test_a_round_is_from_one_model_to_the_next() -> None:
    assert seconds_of_rounds(models(10.0, 13.0, 14.5)) == [3.0, 1.5]


def test_seconds_to_an_accuracy_count_from_the_first_model_to_the_first_that_reaches_it() -> None:
    run_ = models(100.0, 102.0, 105.0, 109.0, accuracies=(0.1, 0.95, 0.9604, 0.96))
    assert seconds_to(run_, 0.9604) == 5.0
    assert seconds_to(run_, 0.97) is None
    assert seconds_to(models(0.0, 1.0), 0.5) is None, "a model that nobody judged reaches nothing"


def test_the_first_round_of_each_run_warms_up_and_all_others_have_one_median() -> None:
    found = figures([run(0.0, 50.0, 52.0, 55.0), run(0.0, 60.0, 61.0, 68.0)])
    assert (found.round_s, found.fastest_s, found.rounds) == (2.5, 1.0, 4)


def test_figures_over_runs_are_medians_and_a_goal_that_one_run_misses_has_none() -> None:
    fast = run(0.0, 1.0, 2.0, accuracies=(0.1, 0.961, 0.98), pss=100.0, sent=2e6)
    slow = run(0.0, 1.0, 4.0, accuracies=(0.1, 0.9, 0.965), pss=300.0, sent=4e6)
    found = figures([fast, slow])
    assert found.goals_s == (2.5, None)
    assert (found.pss_mb, found.rss_mb, found.mb_a_round) == (200.0, 400.0, 3.0)
    assert found.accuracy == pytest.approx(0.9725)


def test_the_table_divides_by_the_floor_and_says_what_failed() -> None:
    entries = {
        "floor": Entry("bare", [run(0.0, 9.0, 11.0, accuracies=(0.1, 0.2, 0.97), sent=0.0)]),
        "a": Entry("A", [run(0.0, 9.0, 14.0)], [Recovery("the leader", 1.25, 1.3, "")]),
        "b": Entry("B", failures=["run 1 of 1: no"]),
    }
    head, _, floor, first, second = table(entries, "floor").splitlines()
    assert head.count("|") == floor.count("|") == first.count("|") == second.count("|")
    assert "s to 96.04 % | s to 97 %" in head
    assert floor == "| bare | 2.00 | 1.00 | 11.0 | 11.0 | 100 | 200 | – | 5 | – |"
    assert first.startswith("| A | 5.00 | 2.50 | – | – | 100 | 200 | 2.0 |")
    assert first.endswith("| next model 1.2 s after the leader was killed |")
    assert second.startswith("| B | failed | – |")


def test_without_the_floor_nothing_is_divided() -> None:
    assert "| A | 5.00 | – |" in table({"a": Entry("A", [run(0.0, 9.0, 14.0)])}, "floor")


@pytest.mark.parametrize(
    ("then", "revived", "end"),
    [
        (None, "", "(5 of 5 clients run)"),
        (None, "the server started again", "the server started again: no model either"),
        (1, "the server started again", "the server started again: begins again with round 1"),
        (5, "the server started again", "the server started again: goes on with round 5"),
    ],
)
def test_a_kill_without_recovery_is_told_to_its_end(then: int | None, revived: str, end: str) -> None:
    told = recovery(Recovery("the server", None, 60.2, "5 of 5 clients run", revived, then))
    assert told.startswith("no model within 60 s after the server was killed")
    assert told.endswith(end)


def test_the_exponent_of_a_power_law_is_found() -> None:
    sizes = [5.0, 10.0, 20.0, 40.0]
    assert exponent(sizes, [3.0 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [7.0] * 4) == pytest.approx(0.0)
    with pytest.raises(ValueError, match="one size"):
        exponent([5.0, 5.0], [1.0, 2.0])


def test_the_scaling_table_has_the_growth_under_each_mode_that_has_two_sizes() -> None:
    costs = [
        scaling.Cost(5, "relay", 1.0, 0.5, 4.0, 300.0, 1, 2.0),
        scaling.Cost(10, "relay", 2.0, 0.5, 16.0, 300.0, 1, 2.0),
        scaling.Cost(5, "broadcast", 1.0, 0.5, 8.0, 300.0, 1, 2.0),
    ]
    rows = scaling.table(costs).splitlines()[2:]
    assert rows[2] == "| growth | relay | nodes^1.00 | nodes^0.00 | nodes^2.00 | | | |"
    assert len(rows) == 4
    assert rows[3].startswith("| 5 | broadcast |")


def test_the_table_of_a_large_model_has_the_most_memory_and_the_median_seconds() -> None:
    def phases(seconds: float, peak_mb: float) -> dict[str, large.Phase]:
        return {name: large.Phase(seconds, peak_mb) for name in large.PHASES}

    rows = large.table([phases(1.0, 100.0), phases(3.0, 200.0)], model_mb=100.0).splitlines()
    assert "| open | 2.00 | 200 | 2.00 |" in rows
    assert rows[-1] == "| all | 14.00 | 200 | **2.00** |"
    assert "| store (at a member) | 2.00 | | |" in rows, "that memory is another process's"
