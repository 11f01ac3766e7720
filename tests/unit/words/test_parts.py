"""Encoding in parts: the bytes of plain encoding, and nothing large is copied."""

import msgspec
import pytest
from hypothesis import given

from appliance.words.ids import Digest
from appliance.words.messages import HandedOn, MeshMessage, ModelReply, Sealed, Signed, Update, decode_mesh, encode
from appliance.words.models import Metrics
from appliance.words.parts import encode_parts
from tests.unit.words.test_messages import mesh, to_leader, to_participant

DIGEST: Digest = "sha256:" + "0" * 64


@given(mesh | to_leader | to_participant)
def test_the_parts_are_what_the_message_is_encoded_as(message: MeshMessage | Update | ModelReply) -> None:
    assert b"".join(encode_parts(message)) == encode(message)


@pytest.mark.parametrize("length", [0, 1, 2**8 - 1, 2**8, 2**16 - 1, 2**16, 2**24])
def test_what_is_large_is_a_part_of_its_own_and_not_copied(length: int) -> None:
    large = memoryview(bytes(length))
    update = Update(
        bytes(16), bytes(32), bytes(256), 1, DIGEST, 5, Metrics(0.5, 1.0, 10), bytes(256), bytes(32), "float32", large
    )
    for message in (
        Sealed(large),
        HandedOn(large),
        Signed(b"payload", b"certificate", b"signature", large),
        ModelReply(DIGEST, large),
        update,
    ):
        head, rest = encode_parts(message)
        assert rest is large
        assert len(head) < 1000
        assert b"".join([head, rest]) == encode(message)


def test_what_comes_is_a_view_into_the_bytes_that_came() -> None:
    content = bytearray(encode(Sealed(memoryview(b"envelope"))))
    message = decode_mesh(content)
    assert isinstance(message, Sealed)
    content[-8:] = b"ENVELOPE"
    assert bytes(message.envelope) == b"ENVELOPE"


def test_a_structure_without_a_large_field_is_one_part() -> None:
    metrics = Metrics(0.5, 1.0, 10)
    assert encode_parts(metrics) == (msgspec.msgpack.encode(metrics),)
