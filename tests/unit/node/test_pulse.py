"""What stops the watchdog's pings: something that is busy, and whose count has stood still for too long."""

from appliance.node.pulse import Pulse
from appliance.words.ids import Monotonic


def test_what_counts_on_moves_however_long_it_takes() -> None:
    pulse = Pulse(10.0, Monotonic(0.0))
    assert all(pulse.moves(second // 9, Monotonic(float(second))) for second in range(1000))


def test_what_stands_still_is_told_after_its_time_and_not_before() -> None:
    pulse = Pulse(10.0, Monotonic(0.0))
    assert pulse.moves(7, Monotonic(5.0))
    assert pulse.moves(7, Monotonic(14.9))
    assert not pulse.moves(7, Monotonic(15.0))
    assert pulse.moves(8, Monotonic(16.0)), "it goes on again"


def test_what_is_idle_need_not_move() -> None:
    pulse = Pulse(10.0, Monotonic(0.0))
    assert all(pulse.moves(7, Monotonic(float(second)), is_idle=True) for second in range(100))
    assert pulse.moves(7, Monotonic(108.9)), "its time begins when it gets to work"
    assert not pulse.moves(7, Monotonic(109.0))
