"""Who belongs to the cluster, and how that changes: one node at a time (thesis, 4.1), each first as a learner (4.2.1).

Any two majorities of memberships that differ in one voter share a node, so a change needs no second phase.
"""

import zlib
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta, field

from appliance.consensus.messages import ENTRY_LIMIT, AppendEntries, Entry, Record, check_sequence
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import NodeName

Place = Annotated[str, Meta(max_length=300)]
"""Where a node is reached, in words that only the shells read."""


_ZLIB = b"\x78"
"""Compressed bytes begin with this (RFC 1950, a window of 32 KiB); msgpack's of a membership never do."""
_UNPACKED_LIMIT = 64 * 1024


class Membership(Record, frozen=True):
    """The nodes of the cluster.

    Attributes:
        voters: elect, and their copies count for a majority.
        learners: are sent everything, and count for nothing until they have caught up.
    """

    voters: dict[NodeName, Place]
    learners: dict[NodeName, Place] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[NodeName]:
        """All nodes."""
        return frozenset(self.voters) | frozenset(self.learners)

    def place(self, node: NodeName) -> Place:
        """Return where a node is reached. Raises KeyError if it is none of the cluster."""
        return self.voters[node] if node in self.voters else self.learners[node]

    def with_learner(self, node: NodeName, place: Place) -> "Membership":
        """Return the membership with one more node. Raises OperatorError if that can't be."""
        if node in self.names:
            raise OperatorError(f"{node} is a member of the cluster already")
        return check_size(Membership(self.voters, {**self.learners, node: place}))

    def promoted(self, learner: NodeName) -> "Membership":
        """Return the membership in which this learner votes."""
        learners = {node: place for node, place in self.learners.items() if node != learner}
        return Membership({**self.voters, learner: self.learners[learner]}, learners)

    def without(self, node: NodeName) -> "Membership":
        """Return the membership without a node. Raises OperatorError if that can't be."""
        if node not in self.names:
            raise OperatorError(f"{node} is no member of the cluster")
        if set(self.voters) == {node}:
            raise OperatorError(f"{node} is the last node that votes; a cluster can't be without one")
        voters, learners = (
            {name: place for name, place in nodes.items() if name != node} for nodes in (self.voters, self.learners)
        )
        return Membership(voters, learners)


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(Membership)


def of(names: Iterable[NodeName]) -> Membership:
    """Return a membership of voters whose places are their names."""
    return Membership({name: name for name in sorted(names)})


def encode_membership(membership: Membership) -> bytes:
    """Return the bytes of an entry of kind ``members``: compressed if they are more than an entry carries.

    Names and addresses are much alike: so many more of them fit than otherwise.
    """
    content = _encoder.encode(membership)
    return content if len(content) <= ENTRY_LIMIT else zlib.compress(content, level=9)


def check_size(membership: Membership) -> Membership:
    """Return a membership that an entry can carry. Raises OperatorError on a larger one."""
    size = len(encode_membership(membership))
    if size > ENTRY_LIMIT or len(_encoder.encode(membership)) > _UNPACKED_LIMIT:
        raise OperatorError(
            f"the names and addresses of {len(membership.names)} members would take {size} bytes, and {ENTRY_LIMIT} "
            "are allowed: the cluster is full"
        )
    return membership


def membership_of(entry: Entry) -> Membership:
    """Read an entry of kind ``members``. Raises RemoteError if it holds none: no correct leader made it."""
    try:
        membership = _decoder.decode(_unpacked(entry.data))
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RemoteError("an entry of kind members that holds none") from None
    return check_membership(membership)


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(_ZLIB):
        return data
    opener = zlib.decompressobj()
    content = opener.decompress(data, _UNPACKED_LIMIT)
    if not opener.eof or opener.unused_data:
        raise zlib.error("it does not end where the entry does, or is longer than any can be")
    return content


def check_membership(membership: Membership) -> Membership:
    """Return a membership that can be. Raises RemoteError on any other."""
    if not membership.voters or membership.voters.keys() & membership.learners.keys():
        raise RemoteError("a membership without a voter, or with a node in both parts")
    return membership


def check_entries(message: AppendEntries) -> None:
    """Raise RemoteError unless all entries are such as a correct leader sends, one after another."""
    check_sequence(message)
    for entry in message.entries:
        if entry.kind == "members":
            membership_of(entry)
