"""What a round has collected."""

import msgspec

from appliance.aggregation.validation import check_samples
from appliance.rounds.collected import Collected, OpenedUpdate
from appliance.words.ids import Monotonic, digest_of
from appliance.words.models import MOST_SAMPLES, GlobalModel, Metrics


def _update(number: int, token: bytes) -> OpenedUpdate:
    return OpenedUpdate(number, number.to_bytes(16), token, 1, digest_of(b"m0"), 100, "has another shape")


def test_only_tokens_stand_for_members() -> None:
    """Invented updates close no round early: without a token they stand for nobody, with one for one member."""
    collected = Collected(round=1, opened_at=Monotonic(0.0), deadline=Monotonic(10.0))
    for number in range(1000):
        collected.refuse(_update(number, b""), "no token")
    assert collected.answered == 0
    for number in range(1000):
        collected.refuse(_update(number, b"one"), "has another shape")
    assert collected.answered == 1
    collected.count(_update(1, b"one"))
    collected.refuse(_update(2, b"one"), "its token was used for another update")
    assert (collected.answered, len(collected.accepted)) == (1, 1)


def test_whatever_samples_updates_claim_the_committed_entry_can_be_read() -> None:
    """An entry that no node can read ends every node: one absurd count beside an honest one must not make it."""
    check_samples(MOST_SAMPLES)
    collected = Collected(round=1, opened_at=Monotonic(0.0), deadline=Monotonic(10.0))
    collected.accepted = {number.to_bytes(16): MOST_SAMPLES for number in range(100_000)}
    digest = digest_of(b"m1")
    model = collected.as_global_model(1, None, digest, Metrics(0.5, 1.0, 10), Monotonic(5.0), task="")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(model), type=GlobalModel) == model
