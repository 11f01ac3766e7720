"""The state changes that a node saw (paper, Table II)."""

import msgspec

from appliance.node.elections import KEPT, Elections


def _seen(elections: Elections) -> list[tuple[object, ...]]:
    changes = msgspec.json.decode(elections.encode())
    return [(change["at"], change["term"], change["node"], change["from"], change["to"]) for change in changes]


def test_nothing_seen_is_an_empty_array() -> None:
    assert Elections("node0").encode() == b"[]"


def test_its_own_changes_as_they_happen() -> None:
    elections = Elections("node0")
    elections.observe("follower", 0, None, 1.0)
    elections.observe("candidate", 1, None, 2.0)
    elections.observe("leader", 1, "node0", 3.0)
    elections.observe("leader", 1, "node0", 4.0)
    elections.observe("follower", 2, "node1", 5.0)
    assert _seen(elections) == [
        (2.0, 1, "node0", "follower", "candidate"),
        (3.0, 1, "node0", "candidate", "leader"),
        (5.0, 2, "node0", "leader", "follower"),
        (5.0, 2, "node1", "unknown", "leader"),
    ]


def test_other_nodes_changes_as_consensus_tells_them() -> None:
    elections = Elections("node0")
    elections.observe("follower", 1, "node1", 1.0)
    elections.observe("follower", 2, None, 2.0)
    elections.observe("follower", 2, "node2", 3.0)
    assert _seen(elections) == [
        (1.0, 1, "node1", "unknown", "leader"),
        (3.0, 2, "node1", "leader", "unknown"),
        (3.0, 2, "node2", "unknown", "leader"),
    ]


def test_the_same_leader_again_is_no_change() -> None:
    elections = Elections("node0")
    for term, leader in ((1, "node1"), (2, None), (3, "node1")):
        elections.observe("follower", term, leader, float(term))
    assert len(_seen(elections)) == 1


def test_only_the_last_thousand_stay() -> None:
    elections = Elections("node0")
    for term in range(KEPT):
        elections.observe("candidate" if term % 2 == 0 else "follower", term, None, float(term))
    elections.observe("leader", KEPT, "node0", 0.5)
    seen = _seen(elections)
    assert len(seen) == KEPT
    assert seen[0][1] == 1
    assert seen[-1][4] == "leader"
