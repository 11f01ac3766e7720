"""Make envelopes.json anew, after a change of the format that is meant (python -m tests.vectors.make_envelopes).

Fixed are the key, content key and salt. The wrapped key is random (OAEP is), and then fixed by being written down.
"""

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.envelopes import seal
from appliance.envelopes.format import Header, Kind
from appliance.envelopes.keys import key_id_of, public_der, round_key_id

FOLDER = Path(__file__).parent
CONTENT_KEY = bytes(range(32))
SALT = bytes(range(100, 116))
PAYLOAD = b"p2pfl-node test vector"


def _flip(envelope: bytes, offset: int) -> bytes:
    return envelope[:offset] + bytes([envelope[offset] ^ 1]) + envelope[offset + 1 :]


def main() -> None:
    """Write the file."""
    private = load_pem_private_key((FOLDER / "recipient.pem").read_bytes(), None)
    assert isinstance(private, RSAPrivateKey)
    wrapped = private.public_key().encrypt(CONTENT_KEY, seal._OAEP)
    key_id = key_id_of(public_der(private))
    sealed = Header(kind=Kind.TO_LEADER, term=3, round=7, key_id=key_id, salt=SALT, wrapped=wrapped)
    candidate = Header(kind=Kind.CANDIDATE, term=3, round=7, key_id=round_key_id(CONTENT_KEY), salt=SALT, wrapped=b"")
    good = seal.seal_content(PAYLOAD, CONTENT_KEY, sealed)
    golden = [
        {"name": "to the leader", "wrapped": wrapped.hex(), "payload": PAYLOAD.hex(), "envelope": good.hex()},
        {
            "name": "to the leader, empty payload",
            "wrapped": wrapped.hex(),
            "payload": "",
            "envelope": seal.seal_content(b"", CONTENT_KEY, sealed).hex(),
        },
        {
            "name": "candidate",
            "wrapped": "",
            "payload": PAYLOAD.hex(),
            "envelope": seal.seal_content(PAYLOAD, CONTENT_KEY, candidate).hex(),
        },
    ]
    untrue = "envelope: its content is not authentic"
    short = "envelope: cut short in its header"
    head = 72 + len(wrapped)
    refused = [
        ("no bytes", short, b""),
        ("cut in the fixed header", short, good[:71]),
        ("cut in the wrapped key", short, good[: head - 1]),
        ("cut in the tag", "envelope: cut short, or its last chunk is empty", good[: head + 15]),
        ("cut in the chunk", untrue, good[:-1]),
        ("one byte too many", untrue, good + b"\x00"),
        ("wrong magic", "envelope: is none (wrong magic)", _flip(good, 0)),
        ("unknown version", "envelope: format version 0 is unknown", _flip(good, 4)),
        ("unknown kind", "envelope: kind 0 is unknown", _flip(good, 5)),
        ("other kind", untrue, good[:5] + b"\x02" + good[6:]),
        (
            "other length of the wrapped key",
            "envelope: a wrapped key of 257 bytes is not allowed for this kind",
            _flip(good, 7),
        ),
        ("other term", untrue, _flip(good, 15)),
        ("term out of range", "envelope: the term or the round is out of range", good[:8] + b"\xff" + good[9:]),
        ("other round", untrue, _flip(good, 23)),
        ("other key id", "envelope: is sealed to another key", _flip(good, 24)),
        ("other salt", untrue, _flip(good, 56)),
        ("other wrapped key", "envelope: its wrapped key is not authentic", _flip(good, 72)),
        ("other content", untrue, _flip(good, head)),
        ("other tag", untrue, _flip(good, len(good) - 1)),
    ]
    content = {
        "content_key": CONTENT_KEY.hex(),
        "salt": SALT.hex(),
        "term": 3,
        "round": 7,
        "golden": golden,
        "refused": [{"name": name, "reason": reason, "envelope": envelope.hex()} for name, reason, envelope in refused],
    }
    (FOLDER / "envelopes.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
