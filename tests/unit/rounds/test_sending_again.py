"""What is on its way is not sent or asked for again before it can have come."""

import pytest

from appliance.rounds.actions import Deliver, Fetch, ParticipantAction
from appliance.rounds.participant import ANSWER_S, FinishedUpdate, Participant
from appliance.words.ids import Digest, Monotonic, digest_of
from appliance.words.messages import Announcement, Candidate, Opening

BASE = digest_of(b"m4")
KEPT = FinishedUpdate(bytes(16), 5, BASE)
KEY, KEY_ID = bytes(256), bytes(32)


def opened(
    kept: FinishedUpdate | None, stored: frozenset[Digest], transfer_s: float
) -> list[tuple[int, ParticipantAction]]:
    """Return what a participant does in the 200 s after a round's opening, looked at each second."""
    now = Monotonic(0.0)
    participant = Participant(kept, stored, now, window_s=2.0, transfer_s=transfer_s)
    participant.announced(Announcement("c", "node0", 1, KEY_ID, KEY), now)
    opening = Opening("c", "node0", 1, 5, 4, BASE, KEY_ID, 0, 5, 3, 600.0, KEY, True, "float32")
    did = [(0, action) for action in participant.opened(opening, now)]
    did += [(0, action) for action in participant.token_received(KEY, now)]
    return did + [(second, one) for second in range(1, 201) for one in participant.tick(Monotonic(float(second)))]


@pytest.mark.parametrize("transfer_s", [0.0, 60.0])
def test_an_update_is_given_the_time_that_its_bytes_take(transfer_s: float) -> None:
    sent = [second for second, action in opened(KEPT, frozenset({BASE}), transfer_s) if isinstance(action, Deliver)]
    assert sent[:2] == [0, 2 + transfer_s + ANSWER_S]


@pytest.mark.parametrize("transfer_s", [0.0, 60.0])
def test_so_is_a_model_that_was_asked_for(transfer_s: float) -> None:
    asked = [second for second, action in opened(None, frozenset(), transfer_s) if isinstance(action, Fetch)]
    assert asked[:2] == [0, transfer_s + ANSWER_S]


def test_a_new_leader_is_asked_at_once_for_what_the_last_one_did_not_send() -> None:
    now = Monotonic(0.0)
    participant = Participant(None, frozenset(), now, window_s=2.0, transfer_s=60.0)
    later = Monotonic(1.0)
    for leader, term, at in (("node0", 1, now), ("node1", 2, later)):
        participant.leader_changed(at)
        participant.announced(Announcement("c", leader, term, KEY_ID, KEY), at)
        opening = Opening("c", leader, term, 5, 4, BASE, KEY_ID, 0, 5, 3, 600.0, KEY, True, "float32")
        assert Fetch(BASE) in participant.opened(opening, at)


def test_a_receipt_takes_no_longer_however_large_the_model_is() -> None:
    now = Monotonic(0.0)
    participant = Participant(KEPT, frozenset({BASE}), now, window_s=2.0, transfer_s=60.0)
    participant.announced(Announcement("c", "node0", 1, KEY_ID, KEY), now)
    participant.opened(Opening("c", "node0", 1, 5, 4, BASE, KEY_ID, 0, 5, 3, 600.0, KEY, True, "float32"), now)
    participant.token_received(KEY, now)
    candidate = Candidate("c", "node0", 1, 5, 5, digest_of(b"m5"))
    assert Fetch(candidate.digest) not in participant.candidate(candidate, now, with_body=True)
    assert Fetch(candidate.digest) in participant.tick(Monotonic(ANSWER_S))
