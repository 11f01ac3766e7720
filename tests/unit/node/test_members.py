"""Who belongs to the cluster, and which changes are refused before consensus is asked."""

import pytest

from appliance.consensus.membership import Membership, of
from appliance.datagrams.places import membership_of
from appliance.node.members import belongs, check_addition, check_removal, members_view
from appliance.operator_api.views import MembersView
from appliance.words.errors import OperatorError
from appliance.words.settings import Aggregation, Cluster, Member, Rounds

NODE0, NODE1, NODE2 = Member("10.0.0.1"), Member("10.0.0.2"), Member("10.0.0.3", 8000, 8001)
PRESENT = MembersView({"node0": NODE0, "node1": NODE1}, {"node2": NODE2})


def test_voters_and_learners_are_shown_with_their_places() -> None:
    membership = membership_of(Cluster("c", {"node0": NODE0, "node1": NODE1})).with_learner(
        "node2", "10.0.0.3 8000 8001"
    )
    assert members_view(membership, Cluster("c", {"node0": NODE0})) == PRESENT


def test_a_node_that_joins_belongs_once_its_log_says_so() -> None:
    here = ["node0", "node1", "node2"]
    assert not belongs("node2", here, Membership({})), "it is only configured"
    assert not belongs("node2", here[:2], of(here[:2])), "it catches up, and is not yet where it was added"
    assert belongs("node2", here, of(here[:2]))
    assert belongs("node2", here, of(here))


def test_a_node_is_removed_by_a_commit_and_not_before() -> None:
    assert belongs("node0", ["node1"], of(["node0", "node1"]))
    assert not belongs("node0", ["node1"], of(["node1"]))


@pytest.mark.parametrize("member", [NODE1, Member("10.0.0.2", 7000, 9), Member("10.0.0.3", 9, 8001)])
def test_two_nodes_in_one_place_are_refused(member: Member) -> None:
    with pytest.raises(OperatorError, match=r"node9 can't be at 10\.0\.0\.., mesh port"):
        check_addition("node9", member, PRESENT)


def test_other_places_are_free_and_a_name_that_is_taken_is_for_consensus_to_refuse() -> None:
    check_addition("node9", Member("10.0.0.2", 7010, 7011), PRESENT)
    check_addition("node9", Member("10.0.0.9"), PRESENT)
    check_addition("node1", NODE1, PRESENT)


def test_a_removal_leaves_as_many_as_a_round_needs() -> None:
    check_removal("node1", PRESENT, Rounds(), Aggregation())
    check_removal("node1", PRESENT, Rounds(quorum=1), Aggregation())
    check_removal("node2", PRESENT, Rounds(quorum=2), Aggregation())
    with pytest.raises(OperatorError, match=r"without node1 there would be 1 nodes, and rounds\.quorum is 2"):
        check_removal("node1", PRESENT, Rounds(quorum=2), Aggregation())


def test_a_removal_leaves_as_many_as_the_strategy_needs() -> None:
    three = MembersView({"node0": NODE0, "node1": NODE1, "node2": NODE2}, {"node3": Member("10.0.0.4")})
    check_removal("node3", three, Rounds(), Aggregation("median"))
    with pytest.raises(OperatorError, match=r"would be 2 nodes, and aggregation\.strategy median needs 3 updates"):
        check_removal("node2", three, Rounds(), Aggregation("median"))
