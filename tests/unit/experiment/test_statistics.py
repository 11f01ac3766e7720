"""What is said of several measurements is what textbooks say."""

import pytest

from appliance.experiment.statistics import BAR, Durations, Spread, bars


def test_a_spread_is_mean_and_sample_deviation() -> None:
    spread = Spread.of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert (spread.count, spread.mean, spread.least, spread.most) == (8, 5.0, 2.0, 9.0)
    assert spread.deviation == pytest.approx((32 / 7) ** 0.5)


def test_one_measurement_has_no_spread() -> None:
    assert Spread.of([0.96]) == Spread(1, 0.96, 0.0, 0.96, 0.96)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([0.5], Durations(0.5, 0.5, 0.5, 0.5, 0.5)),
        ([float(number) for number in range(100, 0, -1)], Durations(1.0, 50.5, 90.0, 99.0, 100.0)),
        # Nearest rank: of ten the 9th, and of eleven the 10th, not one that never occurred.
        ([float(number) for number in range(1, 11)], Durations(1.0, 5.5, 9.0, 10.0, 10.0)),
        ([float(number) for number in range(1, 12)], Durations(1.0, 6.0, 10.0, 11.0, 11.0)),
    ],
)
def test_quantiles_are_by_nearest_rank(seconds: list[float], expected: Durations) -> None:
    assert Durations.of(seconds) == expected


def test_bars_show_every_step_from_the_first_to_the_last() -> None:
    assert bars([0.55, 0.58, 0.81], 0.1) == [
        "  0.50 to  0.60    2 ##",
        "  0.60 to  0.70    0",
        "  0.70 to  0.80    0",
        "  0.80 to  0.90    1 #",
    ]


def test_bars_fit_a_terminal_however_many_there_are() -> None:
    lines = bars([0.55] * 1000 + [0.75] * 500, 0.1)
    assert [line.count("#") for line in lines] == [BAR, 0, BAR // 2]
    assert max(map(len, lines)) <= 80
