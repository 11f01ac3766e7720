"""What the first bytes tell agrees with what the whole message says, and nothing makes the reader fail otherwise."""

import contextlib
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.envelopes.format import SALT_BYTES, Header, Kind, format_header
from appliance.mesh.head import HEAD_BYTES, SHORT_MESSAGE_BYTES, Head, read_head
from appliance.words.errors import RemoteError
from appliance.words.messages import (
    Announcement,
    HandedOn,
    LeaderStatement,
    MeshMessage,
    Sealed,
    Signed,
    SnapshotReply,
    Stored,
    decode_mesh,
    encode,
)
from tests.vectors.make_messages import MESSAGES

KEY_ID = bytes(range(32))
NUMBERS = st.integers(0, 2**62 - 1)


def envelope(kind: Kind = Kind.TO_LEADER, term: int = 3, content: int = 1000) -> bytes:
    header = Header(kind, term, 9, KEY_ID, bytes(SALT_BYTES), bytes(0 if kind is Kind.CANDIDATE else 256))
    return format_header(header) + bytes(content)


def head_of(content: bytes) -> Head:
    return read_head(content[:HEAD_BYTES], len(content))


@pytest.mark.parametrize("kind", [Sealed, HandedOn])
@given(kind_of_envelope=st.sampled_from(Kind), term=NUMBERS, size=st.sampled_from([0, 100, 70_000]))
def test_the_header_of_an_envelope_is_found(
    kind: type[Sealed | HandedOn], kind_of_envelope: Kind, term: int, size: int
) -> None:
    head = head_of(encode(kind(memoryview(envelope(kind_of_envelope, term, size)))))
    assert head.type == kind.__name__
    assert head.term == term
    assert head.envelope is not None
    assert (head.envelope.kind, head.envelope.round, head.envelope.key_id) == (kind_of_envelope, 9, KEY_ID)


@given(term=NUMBERS, cluster=st.text("abc.-_", min_size=1, max_size=64), leader=st.text("abc", min_size=1, max_size=63))
def test_type_and_term_of_a_statement_are_found(term: int, cluster: str, leader: str) -> None:
    statement: LeaderStatement = Announcement(cluster, leader, term, KEY_ID, bytes(300))
    head = head_of(encode(Signed(encode(statement), bytes(500), bytes(70), memoryview(bytes(100_000)))))
    assert head == Head("Signed", "Announcement", term)


@given(term=NUMBERS, length=st.sampled_from([0, 300, 70_000]))
def test_the_term_of_a_plain_message_is_found(term: int, length: int) -> None:
    assert head_of(encode(SnapshotReply(term, bytes(length)))) == Head("SnapshotReply", term=term)
    assert head_of(encode(Stored(term, 1, "sha256:" + "0" * 64))) == Head("Stored", term=term)


@pytest.mark.parametrize("message", MESSAGES["mesh"], ids=lambda message: type(message).__name__)
def test_each_message_of_the_vectors_has_a_head(message: MeshMessage) -> None:
    if isinstance(message, Sealed | HandedOn):
        message = type(message)(memoryview(envelope()))
    assert head_of(encode(message)).type == type(message).__name__


@given(content=st.binary(max_size=HEAD_BYTES), length=st.integers(0, 2**30))
def test_rubbish_is_refused_and_nothing_else_happens(content: bytes, length: int) -> None:
    with contextlib.suppress(RemoteError):
        read_head(content, max(length, len(content)))


SHORT = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.binary(max_size=300))


@given(
    fields=st.dictionaries(st.text(max_size=40), SHORT | st.text(max_size=300) | st.lists(st.none()), max_size=20),
    cut=st.integers(0, 400),
)
def test_fields_of_any_kind_are_read_as_the_library_reads_them(fields: dict[str, object], cut: int) -> None:
    """The term of a message is among its first bytes, behind whatever stands there: found, or not, but never wrong."""
    fields = {"type": "Stored", **fields}
    content = msgspec.msgpack.encode(fields)
    if fields["type"] != "Stored":
        return
    term = read_head(content, len(content)).term
    wanted = fields.get("term")
    assert term is None or (term == wanted and not isinstance(wanted, bool))
    with contextlib.suppress(RemoteError):
        read_head(content[:cut], len(content))


@given(position=st.integers(0, HEAD_BYTES - 1), change=st.integers(1, 255))
def test_a_changed_byte_never_makes_a_sound_message_unsound(position: int, change: int) -> None:
    """Whatever the whole decoder takes, the reader of its head takes too."""
    for message in (Sealed(memoryview(envelope())), SnapshotReply(7, bytes(400)), Signed(bytes(300), b"", b"")):
        content = bytearray(encode(message))
        content[position] ^= change
        try:
            decoded = decode_mesh(content)
        except RemoteError:
            continue
        if isinstance(decoded, Sealed):
            continue  # its envelope may be none any more
        assert head_of(bytes(content)).type == type(decoded).__name__


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        b"rubbish",
        msgspec.msgpack.encode({"term": 1, "type": "ResignWanted"}),
        msgspec.msgpack.encode({"type": "Rubbish"}),
        msgspec.msgpack.encode({"type": 1}),
        msgspec.msgpack.encode({"type": "Sealed"}),
        msgspec.msgpack.encode({"type": "Sealed", "envelope": 1}),
        msgspec.msgpack.encode({"type": "Sealed", "envelope": envelope()[:71]}),
        msgspec.msgpack.encode({"type": "HandedOn", "envelope": b"p2pX" + bytes(300)}),
    ],
)
def test_what_can_be_no_message_is_refused_by_its_first_bytes(content: bytes) -> None:
    with pytest.raises(RemoteError):
        read_head(content[:HEAD_BYTES], 2**26)


def test_a_small_message_of_a_great_length_is_refused() -> None:
    content = encode(Stored(1, 1, "sha256:" + "0" * 64))
    assert read_head(content, SHORT_MESSAGE_BYTES).type == "Stored"
    with pytest.raises(RemoteError, match="a Stored is never that long"):
        read_head(content, SHORT_MESSAGE_BYTES + 1)


def test_a_refusal_never_quotes_the_peer() -> None:
    for _ in range(50):
        with pytest.raises(RemoteError) as refusal:
            read_head(msgspec.msgpack.encode({"type": f"evil {os.urandom(4).hex()}"}), 100)
        assert "evil" not in refusal.value.reason
