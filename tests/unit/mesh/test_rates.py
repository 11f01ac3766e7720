"""Token buckets, allowances and turnstiles, on a clock of the test's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.mesh.rates import PATIENCE_S, REFUSED_S, Allowance, Limits, TokenBucket, Turnstile, limits_of
from appliance.words.ids import Monotonic

LIMITS = Limits(messages_per_s=10.0, messages_at_once=20.0, bytes_per_s=1000.0, bytes_at_once=5000.0)
MIB = 1024 * 1024


def at(seconds: float) -> Monotonic:
    return Monotonic(seconds)


def test_a_bucket_lends_and_says_how_long_it_takes_to_be_even() -> None:
    bucket = TokenBucket(10.0, 20.0, at(0))
    assert bucket.spend(20, at(0)) == 0
    assert bucket.spend(5, at(0)) == pytest.approx(0.5)
    assert bucket.spend(0, at(0.5)) == pytest.approx(0)
    assert bucket.level(at(100)) == 20.0, "no rest makes it fuller than full"


@given(
    spendings=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 50)), max_size=50),
)
def test_who_waits_as_told_never_gets_more_than_burst_and_rate(spendings: list[tuple[float, float]]) -> None:
    bucket = TokenBucket(10.0, 20.0, at(0))
    now, spent = 0.0, 0.0
    for pause, amount in spendings:
        now += pause
        spent += amount
        now += bucket.spend(amount, at(now))
        assert spent <= 20.0 + 10.0 * now + 1e-6


def test_messages_and_bytes_are_both_counted() -> None:
    allowance = Allowance(LIMITS, at(0))
    assert [allowance.spend(1, at(0)) for _ in range(20)] == [0.0] * 20
    assert allowance.spend(1, at(0)) == pytest.approx(0.1)
    allowance = Allowance(LIMITS, at(0))
    assert allowance.spend(6000, at(0)) == pytest.approx(1.0)


def test_who_goes_on_is_refused_for_a_while_and_then_heard_again() -> None:
    allowance, now, wait_s = Allowance(LIMITS, at(0)), 0.0, 0.0
    while not allowance.refused_s(at(now)):
        now += wait_s
        assert now < 60
        wait_s = allowance.spend(3000, at(now))
    assert now >= PATIENCE_S
    assert allowance.refused_s(at(now)) == REFUSED_S
    assert allowance.refused_s(at(now + REFUSED_S)) == 0
    assert allowance.spend(1, at(now + REFUSED_S)) == 0.0


def test_a_great_burst_is_no_flood() -> None:
    """One message over all that may come at once is waited for, and forgiven, though the peer owed for long."""
    allowance, now = Allowance(LIMITS, at(0)), 0.0
    for _ in range(3):
        now += allowance.spend(18_000, at(now))
        now += 10.0
        assert allowance.spend(1, at(now)) == 0.0
        assert not allowance.refused_s(at(now))


@pytest.mark.parametrize("members", [3, 5, 50])
@pytest.mark.parametrize("model", [1_600_000, 60 * MIB])
def test_an_honest_round_never_waits(members: int, model: int) -> None:
    """All that one peer may have to send in a round at once: models for or of all, its own two, and small talk."""
    allowance = Allowance(limits_of(members, 64 * MIB), at(0))
    for round_ in range(60):
        now = at(round_ * max(1.0, model * (members + 2) / (64 * MIB)))  # as fast as half a gigabit a second allows
        for _ in range(members + 2):
            assert allowance.spend(model, now) == 0.0
        for _ in range(min(4 * members, int(10 + 4 * members * model / MIB))):
            assert allowance.spend(1000, now) == 0.0


def test_small_limits_leave_room_for_quick_rounds_too() -> None:
    allowance = Allowance(limits_of(5, 2 * MIB), at(0))
    for second in range(60):
        for _ in range(7):
            assert allowance.spend(2 * MIB, at(second)) == 0.0


def test_a_turnstile_lets_each_source_through_at_its_own_rate() -> None:
    turnstile = Turnstile(1.0, 3.0)
    assert [turnstile.admits("a", at(0)) for _ in range(4)] == [True, True, True, False]
    assert turnstile.admits("b", at(0))
    assert not turnstile.admits("a", at(0.9))
    assert turnstile.admits("a", at(1.0))


def test_a_turnstile_forgets_who_was_away_longest() -> None:
    turnstile = Turnstile(0.001, 1.0)
    for number in range(5000):
        assert turnstile.admits(number, at(0))
    assert turnstile.admits(0, at(1))
    assert not turnstile.admits(4999, at(1))
