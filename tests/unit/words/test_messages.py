"""parse(format(x)) = x for every message, and no hostile bytes raise anything but RemoteError."""

import contextlib
from collections.abc import Callable
from typing import get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.words import messages
from appliance.words.errors import RemoteError
from appliance.words.ids import Digest
from appliance.words.messages import (
    Announcement,
    Candidate,
    DatagramKeyAnswer,
    DatagramKeyOffer,
    DatagramKeyWanted,
    Finished,
    HandedOn,
    ModelReply,
    ModelRequest,
    ModelWanted,
    Opening,
    Participation,
    Receipt,
    ResignWanted,
    Revocations,
    Sealed,
    Signed,
    SnapshotReply,
    SnapshotWanted,
    Stored,
    TokenSigned,
    TokenWanted,
    Update,
)
from appliance.words.models import Encoding, Metrics

numbers = st.integers(0, 2**62 - 1)
counts = st.integers(0, 100_000)
names = st.from_regex(r"\A[a-z0-9][a-z0-9.-]{0,62}\Z")
digests: st.SearchStrategy[Digest] = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
keys = st.binary(min_size=32, max_size=32)
identifiers = st.binary(min_size=16, max_size=32)
public_keys = st.binary(min_size=256, max_size=600)
tokens = st.binary(min_size=256, max_size=512)
texts = st.text(st.characters(codec="utf-8"), max_size=300)
blobs = st.binary(max_size=500)
shares = st.floats(0.0, 1.0)
losses = st.floats(0.0, 1e30)
samples = st.integers(0, 10**12)

encodings = st.sampled_from(get_args(Encoding))
update_ids = st.binary(min_size=16, max_size=16)
metrics = st.builds(Metrics, shares, losses, samples)

mesh = st.one_of(
    st.builds(Signed, blobs, blobs, st.binary(max_size=256), blobs),
    st.builds(Sealed, blobs),
    st.builds(Stored, numbers, numbers, digests),
    st.builds(Participation, numbers, numbers, st.booleans()),
    st.builds(ModelWanted, digests, public_keys),
    st.builds(ResignWanted, numbers),
    st.builds(SnapshotWanted, numbers),
    st.builds(SnapshotReply, numbers, blobs),
    st.builds(Finished, numbers, numbers),
    st.builds(HandedOn, blobs),
    st.builds(TokenWanted, numbers, numbers, tokens),
    st.builds(TokenSigned, numbers, numbers, tokens),
    st.builds(Revocations, blobs),
    st.builds(DatagramKeyWanted),
    st.builds(DatagramKeyOffer, keys),
    st.builds(DatagramKeyAnswer, keys, keys),
)
statements = st.one_of(
    st.builds(Announcement, texts, names, numbers, identifiers, public_keys),
    st.builds(
        Opening,
        texts,
        names,
        numbers,
        numbers,
        numbers,
        digests,
        identifiers,
        counts,
        counts,
        counts,
        st.floats(0.0, 1e9),
        public_keys,
        st.booleans(),
        encodings,
    ),
    st.builds(Candidate, texts, names, numbers, numbers, numbers, digests),
)
to_leader = st.one_of(
    st.builds(
        Update, update_ids, keys, tokens, numbers, digests, samples, metrics, public_keys, keys, encodings, blobs
    ),
    st.builds(ModelRequest, digests, public_keys, keys),
)
to_participant = st.one_of(
    st.builds(Receipt, update_ids, st.booleans(), texts, keys),
    st.builds(ModelReply, digests, blobs),
)
DECODERS: list[Callable[[bytes], object]] = [
    messages.decode_mesh,
    messages.decode_statement,
    messages.decode_to_leader,
    messages.decode_to_participant,
]


@given(mesh)
def test_mesh_messages_come_back_as_they_were(message: messages.MeshMessage) -> None:
    assert messages.decode_mesh(messages.encode(message)) == message


@given(statements)
def test_statements_come_back_as_they_were(message: messages.LeaderStatement) -> None:
    assert messages.decode_statement(messages.encode(message)) == message


@given(to_leader)
def test_messages_to_a_leader_come_back_as_they_were(message: messages.ToLeader) -> None:
    assert messages.decode_to_leader(messages.encode(message)) == message


@given(to_participant)
def test_messages_to_a_participant_come_back_as_they_were(message: messages.ToParticipant) -> None:
    assert messages.decode_to_participant(messages.encode(message)) == message


@given(st.one_of(mesh, statements, to_leader, to_participant), st.data())
def test_cut_and_flipped_bytes_raise_nothing_else(
    message: messages.MeshMessage | messages.LeaderStatement | messages.ToLeader | messages.ToParticipant,
    data: st.DataObject,
) -> None:
    content = messages.encode(message)
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = bytearray(content)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    for decode in DECODERS:
        for bad in (content[:place], content + content[:1], bytes(flipped)):
            with contextlib.suppress(RemoteError):
                decode(bad)


nested = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=20), blobs),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.text(max_size=9), st.integers(0, 99)), inner, max_size=4),
    ),
)


@given(nested)
def test_any_other_msgpack_is_refused(value: object) -> None:
    """Well-formed bytes of another shape: what a node of another version, or another program, may send."""
    content = msgspec.msgpack.encode(value)
    for decode in DECODERS:
        with contextlib.suppress(RemoteError):
            raise AssertionError(f"taken as {decode(content)}")


@given(nested, st.sampled_from(["Signed", "Stored", "Opening", "Update", "Receipt"]))
def test_a_known_type_with_wrong_fields_is_refused(value: object, kind: str) -> None:
    content = msgspec.msgpack.encode({"type": kind, "term": value, "round": value, "digest": value, "x": value})
    for decode in DECODERS:
        with contextlib.suppress(RemoteError):
            raise AssertionError(f"taken as {decode(content)}")
