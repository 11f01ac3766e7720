"""Asking again: at once, then at doubling intervals up to a bound, for ever."""

from appliance.rounds.retry import Retry
from appliance.words.ids import Monotonic


def _intervals(retry: Retry, count: int) -> list[float]:
    now, intervals = Monotonic(100.0), []
    for _ in range(count):
        assert retry.due(now)
        retry.schedule(now)
        assert not retry.due(now)
        intervals.append(retry.at - now)
        now = retry.at
    return intervals


def test_intervals_double_up_to_a_bound() -> None:
    retry = Retry(first_s=3.0, most_s=30.0)
    assert _intervals(retry, 6) == [3.0, 6.0, 12.0, 24.0, 30.0, 30.0]
    assert retry.tries == 6


def test_reset_begins_anew() -> None:
    retry = Retry(first_s=1.0, most_s=10.0)
    _intervals(retry, 4)
    retry.reset()
    assert _intervals(retry, 2) == [1.0, 2.0]


def test_thousands_of_tries_are_no_harm() -> None:
    """2.0 ** 1024 overflows: a node that waited eight hours for a receipt would have ended."""
    assert _intervals(Retry(first_s=3.0, most_s=30.0), 5000)[-1] == 30.0
