"""The clock on the wall against the training hours: also when it is set, and when summer time begins or ends."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from appliance.node.training_hours import TrainingHours
from appliance.rounds.training import Closed
from appliance.words.ids import Monotonic

NOW = Monotonic(5000.0)


class Wall:
    """A clock on the wall that the test sets."""

    def __init__(self, text: str) -> None:
        self.now = datetime.fromisoformat(text)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local time of a machine there: in 2026 summer time is from March 29 to October 25."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def test_open_and_closed_as_time_passes() -> None:
    wall = Wall("2026-06-03 21:59:30")  # a Wednesday
    hours = TrainingHours(("22:00-06:00",), wall)
    assert hours.closed(NOW) == Closed("22:00", Monotonic(NOW + 30.0))
    wall.now += timedelta(seconds=30)
    assert hours.closed(NOW) is None
    wall.now += timedelta(hours=8)
    assert hours.closed(NOW) == Closed("22:00", Monotonic(NOW + 16 * 3600))


def test_the_next_window_may_be_days_ahead() -> None:
    assert TrainingHours(("Sat 00:00-24:00",), Wall("2026-06-03 12:00")).closed(NOW) == Closed(
        "Sat 00:00", Monotonic(NOW + 60 * 3600)
    )


def test_other_hours_and_a_clock_that_is_set_take_effect_at_once() -> None:
    wall = Wall("2026-06-03 12:00")
    hours = TrainingHours((), wall)
    assert hours.closed(NOW) is None
    hours.set(("22:00-06:00",))
    assert hours.closed(NOW) is not None
    wall.now = datetime.fromisoformat("2026-06-02 23:00")
    assert hours.closed(NOW) is None


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(("evening", "hours_left"), [("2026-03-28", 5), ("2026-06-03", 6), ("2026-10-24", 7)])
def test_what_is_left_until_the_next_window_knows_of_summer_time(evening: str, hours_left: int) -> None:
    closed = TrainingHours(("05:00-06:00",), Wall(f"{evening} 23:00")).closed(NOW)
    assert closed == Closed("05:00", Monotonic(NOW + hours_left * 3600))


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(("night", "open_hours"), [("2026-03-28", 7), ("2026-06-03", 8), ("2026-10-24", 9)])
def test_a_window_is_shorter_or_longer_by_the_hour_that_the_wall_skips_or_repeats(night: str, open_hours: int) -> None:
    begin = datetime.fromisoformat(f"{night} 18:00").timestamp()
    walls = [datetime.fromtimestamp(begin + 600 * step) for step in range(6 * 20)]
    hours = TrainingHours(("22:00-06:00",))
    opened = 0
    for wall in walls:
        hours._local_time = lambda wall=wall: wall  # type: ignore[misc]
        opened += hours.closed(NOW) is None
    assert opened == 6 * open_hours
