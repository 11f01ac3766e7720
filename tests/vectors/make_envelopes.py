"""Make envelopes.json anew, after a change of the format that is meant (python -m tests.vectors.make_envelopes).

Fixed are the keys, the reply secret, the RSA secret and the salt. The wrapped keys are random (OAEP and ML-KEM are),
and then fixed by being written down. Recipient: recipient.pem, and the ML-KEM key of the seed 00 01 .. 3f.
"""

import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.envelopes import seal
from appliance.envelopes.format import KEM_BYTES, Header, Kind
from appliance.envelopes.keys import PrivateKey, RecipientKey, round_key_id
from appliance.envelopes.stream import CHUNK, TAG
from appliance.envelopes.wrapping import unwrap, wrap

FOLDER = Path(__file__).parent
ROUND_KEY = bytes(range(32))
SALT, OTHER_SALT = bytes(range(100, 116)), bytes(range(116, 132))
PAYLOAD = b"p2pfl-node test vector"
KEM_SEED = bytes(range(64))
REPLY_SECRET = bytes(range(200, 232))

UNTRUE = "envelope: its content is not authentic"
SHORT = "envelope: cut short in its header"

Case = tuple[str, str, bytes]


def recipient(*, hybrid: bool, secret: bytes = b"") -> PrivateKey:
    """Return the vectors' recipient of a suite; a reply key, if it has a secret."""
    loaded = load_pem_private_key((FOLDER / "recipient.pem").read_bytes(), None)
    assert isinstance(loaded, RSAPrivateKey)
    return PrivateKey(loaded, MLKEM768PrivateKey.from_seed_bytes(KEM_SEED) if hybrid else None, secret)


def _flip(envelope: bytes, offset: int) -> bytes:
    return envelope[:offset] + bytes([envelope[offset] ^ 1]) + envelope[offset + 1 :]


def _sealed(to: RecipientKey, private: PrivateKey, payload: bytes, kind: Kind = Kind.TO_LEADER) -> bytes:
    _, wrapped = wrap(to)
    header = Header(kind=kind, term=3, round=7, key_id=to.id, salt=SALT, wrapped=wrapped)
    return seal.seal_content(payload, unwrap(wrapped, private), header)


def _candidate(payload: bytes, salt: bytes = SALT) -> bytes:
    header = Header(kind=Kind.CANDIDATE, term=3, round=7, key_id=round_key_id(ROUND_KEY), salt=salt, wrapped=b"")
    return seal.seal_content(payload, ROUND_KEY, header)


def _broken(good: bytes, head: int, *, hybrid: bool) -> list[Case]:
    """Return an envelope to a key, broken in each of its fields."""
    last = good[head:]
    cases = [
        ("no bytes", SHORT, b""),
        ("cut in the magic", SHORT, good[:3]),
        ("cut in the fixed header", SHORT, good[:71]),
        ("cut in the wrapped key", SHORT, good[: head - 1]),
        ("cut before the chunks", "envelope: cut short, or its last chunk is empty", good[:head]),
        ("cut in the tag", "envelope: cut short, or its last chunk is empty", good[: head + 15]),
        ("cut in the chunk", UNTRUE, good[:-1]),
        ("one byte too many", UNTRUE, good + b"\x00"),
        ("its chunk twice", UNTRUE, good + last),
        ("wrong magic", "envelope: is none (wrong magic)", _flip(good, 0)),
        ("unknown version", "envelope: format version 0 is unknown", _flip(good, 4)),
        ("unknown kind", "envelope: kind 0 is unknown", _flip(good, 5)),
        ("other kind", UNTRUE, good[:5] + b"\x02" + good[6:]),
        (
            "other length of the wrapped key",
            f"envelope: a wrapped key of {(head - 72) ^ 1} bytes is not allowed for this kind",
            _flip(good, 7) + b"\x00",
        ),
        ("an earlier term", UNTRUE, good[:15] + b"\x02" + good[16:]),
        ("term out of range", "envelope: the term or the round is out of range", good[:8] + b"\xff" + good[9:]),
        ("another round", UNTRUE, good[:23] + b"\x08" + good[24:]),
        ("other key id", "envelope: is sealed to another key", _flip(good, 24)),
        ("other salt", UNTRUE, _flip(good, 56)),
        ("other wrapped key, RSA", "envelope: its wrapped key is not authentic", _flip(good, 72)),
        ("other content", UNTRUE, _flip(good, head)),
        ("other tag", UNTRUE, _flip(good, len(good) - 1)),
    ]
    if hybrid:
        cases.append(("other wrapped key, ML-KEM", UNTRUE, _flip(good, head - KEM_BYTES)))
    return cases


def _suite(*, hybrid: bool) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    private = recipient(hybrid=hybrid)
    suite = "rsa+mlkem768" if hybrid else "rsa"
    good = _sealed(private.recipient, private, PAYLOAD)
    head = len(good) - len(PAYLOAD) - TAG
    other = recipient(hybrid=not hybrid)
    golden = [
        (f"{suite}, to the leader", PAYLOAD, good),
        (f"{suite}, empty payload", b"", _sealed(private.recipient, private, b"")),
        (f"{suite}, to a participant", PAYLOAD, _sealed(private.recipient, private, PAYLOAD, Kind.TO_PARTICIPANT)),
    ]
    refused = [
        *_broken(good, head, hybrid=hybrid),
        ("of the other suite", "envelope: is sealed to another key", _sealed(other.recipient, other, PAYLOAD)),
        ("under the round key", "envelope: is sealed to another key", _candidate(PAYLOAD)),
    ]
    return (
        [{"key": suite, "name": name, "payload": p.hex(), "envelope": e.hex()} for name, p, e in golden],
        [{"key": suite, "name": f"{suite}: {name}", "reason": r, "envelope": e.hex()} for name, r, e in refused],
    )


def _answers(*, hybrid: bool) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return envelopes to a reply key: for the holder of its secret, and for nobody else."""
    private = recipient(hybrid=hybrid, secret=REPLY_SECRET)
    suite = "rsa+mlkem768" if hybrid else "rsa"
    key = f"{suite}, reply"
    good = _sealed(private.recipient, private, PAYLOAD, Kind.TO_PARTICIPANT)
    lacks, other = recipient(hybrid=hybrid), recipient(hybrid=hybrid, secret=REPLY_SECRET[::-1])
    refused = [
        ("without the secret", _sealed(lacks.recipient, lacks, PAYLOAD, Kind.TO_PARTICIPANT)),
        ("with another secret", _sealed(other.recipient, other, PAYLOAD, Kind.TO_PARTICIPANT)),
    ]
    return (
        [{"key": key, "name": f"{suite}, an answer", "payload": PAYLOAD.hex(), "envelope": good.hex()}],
        [
            {"key": suite, "name": f"{key}: opened without the secret", "reason": UNTRUE, "envelope": good.hex()},
            *({"key": key, "name": f"{key}: sealed {n}", "reason": UNTRUE, "envelope": e.hex()} for n, e in refused),
        ],
    )


def _candidates() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    good, twin, third = _candidate(PAYLOAD), _candidate(PAYLOAD[::-1]), _candidate(PAYLOAD, OTHER_SALT)
    to_key = _sealed(recipient(hybrid=False).recipient, recipient(hybrid=False), PAYLOAD)
    refused = [
        ("cut in the chunk", UNTRUE, good[:-1]),
        ("another's header", UNTRUE, third[:72] + good[72:]),
        ("another's tag, with the same salt and so the same nonce", UNTRUE, good[:-TAG] + twin[-TAG:]),
        ("another's chunk", UNTRUE, good[:72] + third[72:]),
        ("sealed to a key", "envelope: is sealed under another key", to_key),
        ("of another round key", "envelope: is sealed under another key", _flip(good, 24)),
        (
            "with a wrapped key",
            "envelope: a wrapped key of 256 bytes is not allowed for this kind",
            good[:6] + b"\x01\x00" + good[8:] + bytes(256),
        ),
    ]
    return (
        [{"key": "round key", "name": "candidate", "payload": PAYLOAD.hex(), "envelope": good.hex()}],
        [{"key": "round key", "name": f"candidate: {n}", "reason": r, "envelope": e.hex()} for n, r, e in refused],
    )


def main() -> None:
    """Write the file."""
    assert len(PAYLOAD) < CHUNK
    suites = (False, True)
    parts = [*(_suite(hybrid=one) for one in suites), *(_answers(hybrid=one) for one in suites), _candidates()]
    content = {
        "round_key": ROUND_KEY.hex(),
        "kem_seed": KEM_SEED.hex(),
        "reply_secret": REPLY_SECRET.hex(),
        "term": 3,
        "round": 7,
        "golden": [case for golden, _ in parts for case in golden],
        "refused": [case for _, refused in parts for case in refused],
    }
    (FOLDER / "envelopes.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
