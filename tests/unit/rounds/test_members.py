"""Members that come and go in mid-round: who is waited for, and what a majority is."""

from appliance.rounds.actions import Aggregate, AggregatorAction, Propose, Say
from appliance.rounds.aggregator import Aggregator
from appliance.rounds.collected import Judged, OpenedUpdate, Phase
from appliance.words.ids import Monotonic, digest_of
from appliance.words.messages import Candidate, Participation, Stored
from appliance.words.models import GlobalModel, Metrics
from appliance.words.settings import Rounds

HEAD = GlobalModel(4, 4, 1, digest_of(b"m4"), digest_of(b"m3"), 3, 5, 300, 0.5, 1.0, 0.0)
CANDIDATE = digest_of(b"m5")
NOW = Monotonic(50.0)


def nodes(*numbers: int) -> frozenset[str]:
    return frozenset(f"node{number}" for number in numbers)


def collecting(members: int) -> Aggregator:
    """Return the aggregator of node0, with round 5 open and all others live."""
    aggregator = Aggregator("node0", "c", nodes(*range(members)), Rounds(), window_s=0.0, key_rounds=100)
    aggregator.lead(1, HEAD, NOW, head_is_stored=True)
    aggregator.key_ready(1, bytes(32), bytes(256), NOW)
    aggregator.round_begun(1, 5, bytes(256), NOW)
    aggregator.live_changed(nodes(*range(members)), NOW)
    assert aggregator.phase is Phase.COLLECTING
    return aggregator


def deliver(aggregator: Aggregator, count: int) -> list[AggregatorAction]:
    return [
        action
        for number in range(count)
        for action in aggregator.opened_update(
            OpenedUpdate(number, bytes([number]) * 16, bytes([number]) * 32, 5, HEAD.digest, 10, ""), NOW
        )
    ]


def replicating(aggregator: Aggregator, members: int) -> None:
    deliver(aggregator, members)
    aggregator.aggregated(1, 5, Judged(CANDIDATE, Metrics(0.9, 0.1, 60)), NOW)
    assert aggregator.phase is Phase.REPLICATING


def is_proposed(actions: list[AggregatorAction]) -> bool:
    return any(isinstance(action, Propose) for action in actions)


def store(aggregator: Aggregator, *numbers: int) -> bool:
    """Say that these hold the candidate; return whether it is proposed then."""
    return any(is_proposed(aggregator.told(f"node{n}", Stored(1, 5, CANDIDATE), NOW)) for n in numbers)


def test_a_removed_node_is_not_waited_for() -> None:
    aggregator = collecting(4)
    deliver(aggregator, 3)
    assert aggregator.phase is Phase.COLLECTING
    assert Aggregate(1, 5) in aggregator.members_changed(nodes(0, 1, 2), NOW)


def test_a_removed_node_that_could_not_train_is_not_told_of_any_more() -> None:
    aggregator = collecting(4)
    aggregator.told("node3", Participation(1, 5, able=False), NOW)
    assert "node3" in aggregator.waiting.reason
    aggregator.members_changed(nodes(0, 1, 2), NOW)
    assert aggregator.waiting.reason == "waiting for updates of round 5: 0 of 3 (quorum 2)"


def test_a_removed_node_is_no_part_of_the_majority_that_stores() -> None:
    aggregator = collecting(5)
    replicating(aggregator, 5)
    assert not store(aggregator, 4)
    assert not is_proposed(aggregator.members_changed(nodes(0, 1, 2, 3), NOW))
    assert not store(aggregator, 1), "node0 and node1 of four"
    assert store(aggregator, 2)


def test_a_removal_can_be_what_makes_a_majority() -> None:
    aggregator = collecting(4)
    replicating(aggregator, 4)
    assert not store(aggregator, 1)
    assert is_proposed(aggregator.members_changed(nodes(0, 1, 2), NOW))


def test_a_node_that_came_in_mid_round_is_asked_to_store_and_counts() -> None:
    aggregator = collecting(3)
    replicating(aggregator, 3)
    aggregator.members_changed(nodes(0, 1, 2, 3), NOW)
    said = [action for action in aggregator.tick(Monotonic(NOW + 60.0)) if isinstance(action, Say)]
    assert [say.to for say in said if isinstance(say.statement, Candidate)] == [nodes(1, 2, 3)]
    assert not store(aggregator, 1)
    assert store(aggregator, 3)


def test_a_leader_that_is_being_removed_does_not_count_itself() -> None:
    aggregator = collecting(3)
    aggregator.members_changed(nodes(1, 2), NOW)
    replicating(aggregator, 3)
    assert not store(aggregator, 1), "one of the two that stay"
    assert store(aggregator, 2)
