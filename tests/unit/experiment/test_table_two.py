"""Table II: each change belongs to the step of the paper that it is part of."""

from appliance.experiment.table_two import result_of, steps_of
from appliance.local.timeline import Timeline
from appliance.node.elections import Election

NODES = ["node0", "node1", "node2"]


def timeline(*changes: tuple[float, int, str, str, str]) -> Timeline:
    """Return the timeline of (second, term, node, before, after), as the nodes themselves tell it."""
    made = Timeline(NODES, 0.0)
    for at, term, node, before, after in changes:
        made.add_elections(node, [Election(at, term, node, before, after)])
    return made


ELECTED = (
    (1.0, 0, "node1", "follower", "candidate"),
    (1.1, 1, "node1", "candidate", "leader"),
)
HANDED_OVER = (
    (5.0, 2, "node2", "follower", "candidate"),
    (5.1, 2, "node1", "leader", "follower"),
    (5.2, 2, "node2", "candidate", "leader"),
)


def test_the_papers_steps_are_named() -> None:
    steps = steps_of(timeline(*ELECTED, *HANDED_OVER).rows())
    assert [(step.name, "".join(step.row.states.values())) for step in steps] == [
        ("start", "FFF"),
        ("election", "FCF"),
        ("election", "FLF"),
        ("re-election", "FLC"),
        ("resignation", "FFC"),
        ("re-election", "FFL"),
    ]


def test_a_candidate_that_gives_way_belongs_to_the_same_step() -> None:
    rival = (1.05, 1, "node0", "follower", "candidate"), (1.15, 1, "node0", "candidate", "follower")
    names = [step.name for step in steps_of(timeline(*ELECTED, *rival).rows())]
    assert names == ["start", "election", "election", "election", "re-election"]


def test_the_sequence_is_reached_and_timed() -> None:
    result = result_of(timeline(*ELECTED, *HANDED_OVER).rows(), data="digits")
    assert result.reached
    assert "node1 is elected; when it resigns, node2 is elected" in result.findings[0]
    assert "0.20 s" in result.findings[1]
    assert result.tables[0].rows[-1] == ("re-election", "5.20 s", "2", "F", "F", "L")
    assert result.rows[1]["what"] == "node1 stands"
    assert result.rows[1]["node1"] == "C"


def test_without_another_leader_it_is_not_reached() -> None:
    result = result_of(timeline(*ELECTED).rows(), data="digits")
    assert not result.reached
    assert result.findings[0].startswith("NOT")


def test_with_two_leaders_at_the_end_it_is_not_reached() -> None:
    assert not result_of(timeline(*ELECTED, HANDED_OVER[0], HANDED_OVER[2]).rows(), data="digits").reached
