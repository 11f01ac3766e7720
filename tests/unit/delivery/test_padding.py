"""All updates of a round have one length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.delivery.padding import BLOCK, LENGTH_BYTES, pad, padded_length, unpad
from appliance.words.errors import RemoteError


def _padded(length: int, *message: bytes) -> bytes:
    return b"".join(pad(length, *message))


@given(st.binary(max_size=3000), st.integers(0, 3000), st.integers(0, 5000))
def test_padded_content_holds_its_message_in_parts_or_whole(message: bytes, cut: int, room: int) -> None:
    length = len(message) + LENGTH_BYTES + room
    content = _padded(length, message)
    assert len(content) == length
    assert bytes(unpad(content)) == message
    assert _padded(length, message[:cut], message[cut:]) == content


@given(st.binary(max_size=200))
def test_any_bytes_are_content_or_refused(content: bytes) -> None:
    try:
        message = bytes(unpad(content))
    except RemoteError:
        return
    assert _padded(len(content), message) == content  # one content has one encoding


@pytest.mark.parametrize("weights", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 1_567_336])
def test_what_stands_beside_the_weights_fits_and_does_not_show(weights: int) -> None:
    length = padded_length(weights)
    assert length % BLOCK == 0
    assert length - weights >= BLOCK
    assert {len(_padded(length, bytes(weights + beside))) for beside in (900, 3000)} == {length}


def test_a_message_that_does_not_fit_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="can't be padded"):
        pad(107, bytes(60), bytes(40))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cut short"),
        (bytes(7), "cut short"),
        ((9).to_bytes(8, "big") + bytes(8), "cut short"),
        ((2**64 - 1).to_bytes(8, "big"), "cut short"),
        ((1).to_bytes(8, "big") + b"m\0\0x", "not empty"),
    ],
)
def test_refusals(content: bytes, reason: str) -> None:
    with pytest.raises(RemoteError, match=reason):
        unpad(content)
