"""Which nodes belong to the cluster, for operators, and which changes of that are refused before consensus is asked."""

from collections.abc import Collection

from appliance.consensus.membership import Membership
from appliance.datagrams.places import members_of
from appliance.operator_api.views import MembersView
from appliance.words.errors import OperatorError
from appliance.words.ids import NodeName
from appliance.words.settings import Aggregation, Cluster, Member, Rounds


def members_view(membership: Membership, cluster: Cluster) -> MembersView:
    """Return a membership with where each node is reached."""
    members = members_of(membership, cluster)
    return MembersView(
        {name: members[name] for name in membership.voters}, {name: members[name] for name in membership.learners}
    )


def belongs(node: NodeName, latest: Collection[NodeName], committed: Membership) -> bool:
    """Whether consensus has a node as a member: it is added as soon as its log says so, and removed by a commit only.

    Where no membership is committed, as on a node that is to join, ``latest`` is what it was configured with.
    """
    return bool(committed.names) and (node in latest or node in committed.names)


def check_addition(node: NodeName, member: Member, present: MembersView) -> None:
    """Refuse a node in another one's place. Raises OperatorError."""
    for name, other in {**present.voters, **present.learners}.items():
        same_port = member.mesh_port == other.mesh_port or member.consensus_port == other.consensus_port
        if name != node and member.host == other.host and same_port:
            raise OperatorError(
                f"{node} can't be at {member.host}, mesh port {member.mesh_port}, consensus port "
                f"{member.consensus_port}: {name} has one of these ports there"
            )


def check_removal(node: NodeName, present: MembersView, rounds: Rounds, aggregation: Aggregation) -> None:
    """Refuse to leave fewer nodes than a round needs. Raises OperatorError."""
    left = len(present.voters.keys() - {node})
    if node not in present.voters:
        return
    if rounds.quorum is not None and left < rounds.quorum:
        raise OperatorError(
            f"without {node} there would be {left} nodes, and rounds.quorum is {rounds.quorum}: no round could close; "
            "lower it in every node's file, and restart them, before"
        )
    if left < aggregation.least_updates:
        raise OperatorError(
            f"without {node} there would be {left} nodes, and aggregation.strategy {aggregation.strategy} needs "
            f"{aggregation.least_updates} updates: no round could close; choose another in every node's file, and "
            "restart them, before"
        )
