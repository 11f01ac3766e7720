"""Messages as bytes: fixed by vectors (docs/protocol.md, section 3), and hostile bytes raise RemoteError alone."""

import contextlib
import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.words import messages
from appliance.words.errors import RemoteError
from tests.vectors.make_messages import FILE, MESSAGES

VECTORS: dict[str, dict[str, str]] = json.loads(FILE.read_text())
DECODERS: dict[str, Callable[[bytes], object]] = {
    "mesh": messages.decode_mesh,
    "statement": messages.decode_statement,
    "to leader": messages.decode_to_leader,
    "to participant": messages.decode_to_participant,
}
CASES = [(family, message) for family, members in MESSAGES.items() for message in members]


@pytest.mark.parametrize(("family", "message"), CASES, ids=[type(message).__name__ for _, message in CASES])
def test_golden_vectors(family: str, message: messages.MeshMessage) -> None:
    content = bytes.fromhex(VECTORS[family][type(message).__name__])
    assert messages.encode(message) == content
    assert DECODERS[family](content) == message


def test_each_message_has_a_vector() -> None:
    listed = {name for family in VECTORS.values() for name in family}
    assert listed == {kind.__name__ for kind in messages._Message.__subclasses__()}


@pytest.mark.parametrize(("family", "message"), CASES, ids=[type(message).__name__ for _, message in CASES])
def test_a_message_of_one_family_is_none_of_another(family: str, message: messages.MeshMessage) -> None:
    for other, decode in DECODERS.items():
        if other != family:
            with pytest.raises(RemoteError):
                decode(messages.encode(message))


@given(data=st.data(), case=st.sampled_from(CASES))
def test_cuts_tails_and_changes_raise_nothing_else(data: st.DataObject, case: tuple[str, messages.MeshMessage]) -> None:
    family, message = case
    content = messages.encode(message)
    cut = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[cut] ^= data.draw(st.integers(1, 255))
    for refused in (content[:cut], content + b"\x00"):
        with pytest.raises(RemoteError):
            DECODERS[family](refused)
    with contextlib.suppress(RemoteError):
        DECODERS[family](bytes(changed))


@given(content=st.one_of(st.binary(max_size=200), st.integers(1, 5000).map(lambda depth: b"\x91" * depth)))
def test_rubbish_and_deep_nesting_are_refused(content: bytes) -> None:
    for decode in DECODERS.values():
        with pytest.raises(RemoteError):
            decode(content)


@pytest.mark.parametrize(
    "hostile",
    [
        {"type": "line\nbreak"},
        {"type": "ResignWanted", "term": 1, "line\nbreak": 1},
        {"type": "ResignWanted", "term": "line\nbreak"},
        {"type": "Stored", "term": 1, "round": 1, "digest": "line\nbreak"},
    ],
)
def test_a_refusal_never_quotes_the_peer(hostile: dict[str, object]) -> None:
    with pytest.raises(RemoteError) as refusal:
        messages.decode_mesh(msgspec.msgpack.encode(hostile))
    assert "line" not in refusal.value.reason


def test_a_refusal_names_the_field_that_is_wrong() -> None:
    with pytest.raises(RemoteError, match=r"Expected `int`, got `str` - at `\$\.term`"):
        messages.decode_mesh(msgspec.msgpack.encode({"type": "ResignWanted", "term": "1"}))
