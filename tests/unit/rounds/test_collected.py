"""What a round has collected."""

from appliance.rounds.collected import Collected
from appliance.words.ids import Monotonic


def test_invented_refusals_are_bounded_by_the_members() -> None:
    collected = Collected(round=1, opened_at=Monotonic(0.0), deadline=Monotonic(10.0))
    for number in range(1000):
        collected.refuse(number.to_bytes(16), "has another shape", most=5)
    assert collected.answered == 5
