"""When the kept update is forgotten, and whether it can have counted."""

import pytest
from msgspec.structs import replace

from appliance.rounds.actions import Forget
from appliance.rounds.participant import FinishedUpdate, Participant
from appliance.words.ids import Monotonic, digest_of
from appliance.words.models import GlobalModel

NOW = Monotonic(0.0)
KEPT = FinishedUpdate(bytes(16), 5, digest_of(b"m4"))


def model(round_: int, term: int) -> GlobalModel:
    digest, base = digest_of(f"m{round_}".encode()), digest_of(f"m{round_ - 1}".encode())
    return GlobalModel(round_, round_, term, digest, base, 3, 5, 300, 0.5, 1.0, 0.0)


@pytest.mark.parametrize(
    ("committed", "forgotten"),
    [
        (model(4, 2), []),
        (model(5, 2), [Forget(KEPT.update_id, 2)]),
        (model(6, 2), [Forget(KEPT.update_id, None)]),
        # These end its round too, and no update of it has counted.
        (replace(model(5, 2), rolled_back_to=3), [Forget(KEPT.update_id, None)]),
        (replace(model(5, 2), withheld="it is worse"), [Forget(KEPT.update_id, None)]),
    ],
)
def test_the_term_of_its_own_round_goes_with_it(committed: GlobalModel, forgotten: list[Forget]) -> None:
    participant = Participant(KEPT, frozenset(), NOW, window_s=0.0)
    assert participant.committed(committed, NOW) == forgotten


def test_one_that_is_finished_too_late_counted_for_nobody() -> None:
    participant = Participant(None, frozenset(), NOW, window_s=0.0)
    participant.committed(model(5, 2), NOW)
    assert participant.trained(KEPT, NOW) == [Forget(KEPT.update_id, None)]
    assert participant.kept_round is None
