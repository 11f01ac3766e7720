"""Where a member is reached, as consensus carries it: host, mesh port and consensus port, in one short text."""

import msgspec

from appliance.consensus.membership import Membership, Place
from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName
from appliance.words.settings import Cluster, Member


def place_of(member: Member) -> Place:
    """Return a member's place as a text."""
    return f"{member.host} {member.mesh_port} {member.consensus_port}"


def membership_of(cluster: Cluster) -> Membership:
    """Return the membership that a cluster begins with: all its members vote."""
    return Membership({name: place_of(member) for name, member in sorted(cluster.members.items())})


def members_of(membership: Membership, cluster: Cluster) -> dict[NodeName, Member]:
    """Return where each member is reached. What this node's own configuration says of a member counts more.

    Raises RemoteError on a place that is none: a leader wrote it into the log.
    """
    return {name: cluster.members.get(name) or _member_of(membership.place(name)) for name in sorted(membership.names)}


def _member_of(place: Place) -> Member:
    match place.split(" "):
        case [host, mesh_port, consensus_port] if mesh_port.isdecimal() and consensus_port.isdecimal():
            fields = {"host": host, "mesh_port": int(mesh_port), "consensus_port": int(consensus_port)}
            try:
                return msgspec.convert(fields, Member)
            except msgspec.ValidationError:
                pass
    raise RemoteError("a member's place that is none")
