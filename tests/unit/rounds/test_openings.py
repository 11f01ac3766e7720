"""What an opening says can always be sent, and settings without a quorum mean a majority."""

import pytest

from appliance.rounds.actions import Say
from appliance.rounds.aggregator import Aggregator
from appliance.rounds.collected import Phase
from appliance.words.ids import Monotonic, digest_of
from appliance.words.messages import Opening, decode_statement, encode
from appliance.words.models import GlobalModel
from appliance.words.settings import Rounds

HEAD = GlobalModel(4, 4, 1, digest_of(b"m4"), digest_of(b"m3"), 3, 5, 300, 0.5, 1.0, 0.0)


def _opened(members: int, settings: Rounds, least_updates: int = 1) -> tuple[Aggregator, Monotonic]:
    now = Monotonic(50.0)
    nodes = frozenset(f"node{index}" for index in range(members))
    aggregator = Aggregator("node0", "c", nodes, settings, window_s=0.0, key_rounds=100, least_updates=least_updates)
    aggregator.lead(1, HEAD, now, head_is_stored=True)
    aggregator.key_ready(1, bytes(32), bytes(256), now)
    aggregator.round_begun(1, 5, bytes(256), now)
    assert aggregator.phase is Phase.COLLECTING
    return aggregator, now


def _opening(aggregator: Aggregator, now: float) -> Opening:
    said = [action.statement for action in aggregator.tick(Monotonic(now)) if isinstance(action, Say)]
    [opening] = [statement for statement in said if isinstance(statement, Opening)]
    return opening


@pytest.mark.parametrize(("members", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_without_a_setting_the_quorum_is_a_majority(members: int, quorum: int) -> None:
    aggregator, now = _opened(members, Rounds())
    assert _opening(aggregator, now + 1).quorum == quorum


@pytest.mark.parametrize(("members", "set_to", "quorum"), [(3, None, 5), (9, None, 5), (11, None, 6), (9, 7, 7)])
def test_the_quorum_is_never_below_what_the_strategy_needs(members: int, set_to: int | None, quorum: int) -> None:
    aggregator, now = _opened(members, Rounds(quorum=set_to), least_updates=5)
    assert _opening(aggregator, now + 1).quorum == quorum
    aggregator.members_changed(frozenset({"node0", "node1"}), Monotonic(now + 2))
    assert _opening(aggregator, now + 4).quorum == (set_to or 5), "fewer members do not weaken it"


@pytest.mark.parametrize("later", [1.0, 59.9, 60.0, 61.0, 1000.0])
def test_the_seconds_left_are_never_negative(later: float) -> None:
    aggregator, now = _opened(3, Rounds(deadline_s=60.0))
    opening = _opening(aggregator, now + later)
    assert 0.0 <= opening.deadline_s <= 60.0
    assert decode_statement(encode(opening)) == opening


def test_the_longest_deadline_that_a_configuration_allows_can_be_said() -> None:
    aggregator, now = _opened(3, Rounds(deadline_s=1e9))
    opening = _opening(aggregator, now + 1)
    assert decode_statement(encode(opening)) == opening
