"""The vectors of docs/protocol.md, section 2: fixed envelopes that open, and those that must be refused, each way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.envelopes.format import Header
from appliance.envelopes.keys import PrivateKey, round_key_id
from appliance.envelopes.seal import content_key_of, open_envelope, open_under_key, read_header, seal_content
from appliance.envelopes.streaming import Opener, seal_pieces
from appliance.words.errors import RemoteError
from tests.vectors.make_envelopes import recipient

CASES: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "envelopes.json").read_text())
ROUND_KEY = bytes.fromhex(CASES["round_key"])
SECRET = bytes.fromhex(CASES["reply_secret"])
KEYS: dict[str, PrivateKey] = {
    "rsa": recipient(hybrid=False),
    "rsa+mlkem768": recipient(hybrid=True),
    "rsa, reply": recipient(hybrid=False, secret=SECRET),
    "rsa+mlkem768, reply": recipient(hybrid=True, secret=SECRET),
}


def _content_key(key: str) -> Callable[[Header], bytes]:
    def of(header: Header) -> bytes:
        if key in KEYS:
            return content_key_of(header, KEYS[key])
        if header.wrapped or header.key_id != round_key_id(ROUND_KEY):
            raise RemoteError("envelope: is sealed under another key")
        return ROUND_KEY

    return of


def _whole(envelope: bytes, key: str) -> bytes:
    return open_envelope(envelope, KEYS[key]) if key in KEYS else open_under_key(envelope, ROUND_KEY)


def _streamed(envelope: bytes, key: str) -> bytes:
    opener = Opener(_content_key(key))
    return b"".join([*opener.feed(envelope), opener.finish()])


def _byte_by_byte(envelope: bytes, key: str) -> bytes:
    opener = Opener(_content_key(key))
    parts = [chunk for byte in envelope for chunk in opener.feed(bytes([byte]))]
    return b"".join([*parts, opener.finish()])


WAYS = [_whole, _streamed, _byte_by_byte]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES["golden"], ids=lambda case: str(case["name"]))
def test_golden(case: dict[str, str], way: Callable[[bytes, str], bytes]) -> None:
    assert way(bytes.fromhex(case["envelope"]), case["key"]) == bytes.fromhex(case["payload"])


@pytest.mark.parametrize("case", CASES["golden"], ids=lambda case: str(case["name"]))
def test_the_same_parts_make_the_same_bytes(case: dict[str, str]) -> None:
    envelope, payload = bytes.fromhex(case["envelope"]), bytes.fromhex(case["payload"])
    header = read_header(envelope)
    assert (header.term, header.round) == (CASES["term"], CASES["round"])
    content_key = _content_key(case["key"])(header)
    assert seal_content(payload, content_key, header) == envelope
    assert b"".join(seal_pieces([payload[:5], payload[5:]], content_key, header)) == envelope


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES["refused"], ids=lambda case: str(case["name"]))
def test_refused(case: dict[str, str], way: Callable[[bytes, str], bytes]) -> None:
    with pytest.raises(RemoteError) as refusal:
        way(bytes.fromhex(case["envelope"]), case["key"])
    assert refusal.value.reason == case["reason"]
