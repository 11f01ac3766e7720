"""A long wait is said: soon after it began, then ever more rarely, never more than ten minutes apart."""

import itertools

from appliance.node.patience import FIRST_S, MOST_S, Patience
from appliance.rounds.actions import Waiting
from appliance.words.ids import Monotonic

WAIT = Waiting("waiting for a leader", Monotonic(100.0), None)


def _times(until_s: int) -> list[int]:
    patience = Patience()
    return [at for at in range(until_s) if patience.lines([("node", WAIT)], Monotonic(100.0 + at))]


def test_short_waits_are_silent() -> None:
    assert _times(int(FIRST_S)) == []


def test_lines_come_ever_more_rarely_but_never_stop() -> None:
    times = _times(4 * 3600)
    assert times[:7] == [5, 10, 20, 40, 80, 160, 320]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == sorted(gaps)
    assert max(gaps) == MOST_S


def test_a_line_says_who_why_since_and_until() -> None:
    bounded = Waiting("waiting for updates of round 5: 2 of 5 (quorum 3)", Monotonic(100.0), Monotonic(160.0))
    [line] = Patience().lines([("aggregator", bounded)], Monotonic(120.0))
    assert line == "aggregator: waiting for updates of round 5: 2 of 5 (quorum 3) (for 20 s, 40 s left)"
    [line] = Patience().lines([("node", WAIT)], Monotonic(120.0))
    assert line == "node: waiting for a leader (for 20 s)"


def test_a_bound_that_is_over_is_not_negative() -> None:
    over = Waiting("x", Monotonic(100.0), Monotonic(110.0))
    assert Patience().lines([("node", over)], Monotonic(130.0)) == ["node: x (for 30 s, 0 s left)"]


def test_a_new_wait_begins_anew_while_an_old_one_goes_on() -> None:
    patience = Patience()
    other = Waiting("training for round 5", Monotonic(118.0), None)
    assert len(patience.lines([("node", WAIT)], Monotonic(118.0))) == 1
    assert patience.lines([("node", WAIT), ("participant", other)], Monotonic(120.0)) == []
    assert patience.lines([("node", WAIT), ("participant", other)], Monotonic(123.0)) == [
        "participant: training for round 5 (for 5 s)"
    ]


def test_what_is_not_waited_for_any_more_is_forgotten() -> None:
    """In years of waits nothing piles up."""
    patience = Patience()
    for begin in range(100):
        patience.lines([("participant", Waiting("x", Monotonic(float(begin)), None))], Monotonic(begin + 1.0))
    assert len(patience._due) == 1
