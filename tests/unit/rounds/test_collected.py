"""What a round has collected."""

import msgspec

from appliance.aggregation.validation import check_samples
from appliance.rounds.collected import Collected
from appliance.words.ids import Monotonic, digest_of
from appliance.words.models import MOST_SAMPLES, GlobalModel, Metrics


def test_invented_refusals_are_bounded_by_the_members() -> None:
    collected = Collected(round=1, opened_at=Monotonic(0.0), deadline=Monotonic(10.0))
    for number in range(1000):
        collected.refuse(number.to_bytes(16), "has another shape", most=5)
    assert collected.answered == 5


def test_whatever_samples_updates_claim_the_committed_entry_can_be_read() -> None:
    """An entry that no node can read ends every node: one absurd count beside an honest one must not make it."""
    check_samples(MOST_SAMPLES)
    collected = Collected(round=1, opened_at=Monotonic(0.0), deadline=Monotonic(10.0))
    collected.accepted = {number.to_bytes(16): MOST_SAMPLES for number in range(100_000)}
    digest = digest_of(b"m1")
    model = collected.as_global_model(1, None, digest, Metrics(0.5, 1.0, 10), Monotonic(5.0))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(model), type=GlobalModel) == model
