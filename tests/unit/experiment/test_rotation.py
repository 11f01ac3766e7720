"""Rotation: turns are told apart, counted, and judged for fairness."""

import msgspec

from appliance.experiment.result import Spans
from appliance.experiment.rotation import Turn, result_of, turns_of, up_to_period
from appliance.node.elections import Election
from tests.unit.lineage.test_lineage import model

NODES = ["node0", "node1", "node2", "node3", "node4"]


def test_turns_are_from_election_to_resignation() -> None:
    changes = [
        Election(9.0, 2, "node1", "candidate", "leader"),
        Election(1.0, 0, "node0", "follower", "candidate"),
        Election(1.5, 1, "node0", "candidate", "leader"),
        Election(9.1, 2, "node0", "leader", "follower"),
        Election(3.0, 1, "node2", "candidate", "follower"),
    ]
    assert turns_of(changes) == [Turn("node0", 1, 1.5, 9.1), Turn("node1", 2, 9.0, None)]


def _turns(order: list[int]) -> list[Turn]:
    return [Turn(NODES[who], term, 100 + 5.0 * term, 105 + 5.0 * term) for term, who in enumerate(order, start=1)]


def test_seven_periods_by_turns_are_fair() -> None:
    lineage = [msgspec.structs.replace(model(round_), term=1 + round_ // 2) for round_ in range(6)]
    result = result_of(_turns([3, 0, 1, 2, 4, 0, 1]), NODES, lineage, data="digits")
    assert result.reached
    assert "7 periods, 7 resignations; each node led 1 or 2 times" in result.findings[0]
    assert "6 global models" in result.findings[1]
    rows = {row[0]: row[1:] for row in result.tables[0].rows}
    assert rows["node0"] == ("2", "2, 6", "10.0", "29%", "2")
    assert rows["node3"] == ("1", "1", "5.0", "14%", "2")
    assert result.rows[0] == {
        "turn": 1,
        "leader": "node3",
        "term": 1,
        "begin_s": 0.0,
        "end_s": 5.0,
        "is_whole": "yes",
        "models": 2,
    }
    figure = result.figures[0]
    assert isinstance(figure, Spans)
    assert (figure.spans[1].begin, figure.spans[1].end) == (5.0, 10.0)


def test_a_turn_cut_short_is_no_period_and_is_told() -> None:
    """As it was once on a machine of two cores and a load of 35."""
    turns = _turns([3, 0, 1, 2])
    turns.insert(2, Turn("node4", 9, 113.0, 113.9))
    assert [turn.is_whole for turn in turns] == [True, True, False, True, True]
    assert up_to_period(turns, 3) == turns[:4]
    assert up_to_period(turns, 5) == turns
    result = result_of(turns, NODES, [], data="digits")
    assert "4 periods, 4 resignations, and 1 turn cut short by an election that nobody asked for;" in result.findings[0]
    assert result.settings["periods"] == 4
    assert [row["is_whole"] for row in result.rows] == ["yes", "yes", "no", "yes", "yes"]


def test_more_than_twice_a_share_is_unfair() -> None:
    unfair = result_of(_turns([0, 1] * 10), NODES, [], data="digits")
    assert unfair.findings[0].startswith("NOT fair: a node led 10 of 20")
    assert not unfair.reached
    assert result_of(_turns([0, 1, 2, 0, 1, 3, 0, 1, 4, 0]), NODES, [], data="digits").reached


def test_a_few_periods_that_each_have_another_leader_are_fair() -> None:
    result = result_of(_turns([2, 0]), NODES, [], data="digits")
    assert result.reached
    assert "each node led 0 or 1 times, nobody more than once" in result.findings[0]
