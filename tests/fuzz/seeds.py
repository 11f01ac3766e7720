"""Valid examples for each target, from which fuzzing starts (python -m tests.fuzz --seeds writes them)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.aggregation.encoding import encode as encode_update
from appliance.aggregation.state import Moment, serialise_model, state_name
from appliance.aggregation.tensors import count_of
from appliance.consensus import messages as consensus
from appliance.consensus.membership import Membership, encode_membership
from appliance.consensus.snapshot import Snapshot, encode_snapshot
from appliance.datagrams.sealing import Header, Kind
from appliance.delivery.padding import pad
from appliance.envelopes import seal
from appliance.pki.authority import certificate_pem, key_pem, new_key, request_pem
from appliance.pki.revocations import revoke
from appliance.pki.statements import signed_content
from appliance.storage import frames
from appliance.storage.checkpoints import CheckpointHeader, TrainingId
from appliance.storage.models import KeptUpdate, Residual
from appliance.tokens.wallet import Wallet
from appliance.training import examples
from appliance.words.ids import digest_of
from appliance.words.messages import Announcement, Signed, encode
from appliance.words.models import GlobalModel, Metrics
from tests.fuzz.targets import CLUSTER, ENCODINGS, LAYOUT, ROUND_KEY, WHEN, authority, recipient

CORPUS = Path(__file__).with_name("corpus")
_VECTORS = Path(__file__).parents[1] / "vectors"

_CONFIGURATIONS = (
    """\
node = "node1"
state = "state"
[cluster]
name = "demo"
join = true
[cluster.members]
node1 = { host = "10.0.0.1", mesh_port = 1, consensus_port = 2 }
node2 = { host = "node2.example" }
node3 = { host = "::1" }
[identity]
ca = "ca.pem"
certificate = "node.pem"
private_key = "node.key"
[data]
source = "mnist"
path = "mnist"
shard = 1
shards = 3
""",
    """\
node = "a"
[cluster]
name = "c"
members = { a = { host = "h" } }
[identity]
ca = "a"
certificate = "b"
private_key = "c"
[rounds]
interval_s = 1.5
quorum = 1
[aggregation]
strategy = "mean"
[consensus]
heartbeat_interval_s = 0.1
[training]
epochs = 2
[envelopes]
rsa_bits = 2048
[delivery]
compression = "int8"
[operator]
port = 9
[logging]
level = "debug"
""",
)

_ENTRY = consensus.Entry(5, 3, "data", b"data", consensus.Request("node1", 7))
_MEMBERS_ENTRY = consensus.Entry(6, 3, "members", msgspec.msgpack.encode(Membership({"node1": "h"}, {"node2": "g"})))
_CONSENSUS: tuple[consensus.Message, ...] = (
    consensus.RequestVote(3, 5, 2, pre_vote=True, transfer=False),
    consensus.RequestVoteReply(3, pre_vote=False, granted=True),
    consensus.AppendEntries(3, 4, 2, 4, (_ENTRY, _MEMBERS_ENTRY), beat=9),
    consensus.AppendEntries(3, 4, 2, 4, ()),
    consensus.AppendEntriesReply(3, accepted=False, index=4, hint_index=2, hint_term=1),
    consensus.TimeoutNow(3),
    consensus.Ping(),
)
_SNAPSHOT = Snapshot(
    4, 3, Membership({"node1": "h", "node2": "g"}, {"node3": "f"}), {"node1": 2}, "node1", {"node2": (4, 1)}, b"state"
)
_INITIAL = GlobalModel(0, 0, 1, digest_of(b"0"), None, 0, 0, 0, 0.1, 2.3, 1.8e9)
_NEXT = GlobalModel(1, 1, 1, digest_of(b"1"), _INITIAL.digest, 3, 5, 300, 0.5, 1.0, 1.8e9, 4.5)
_KEPT = KeptUpdate(bytes(16), 1, _INITIAL.digest, 100, Metrics(0.5, 1.0, 50), memoryview(b"weights"))
_CHECKPOINT = msgspec.msgpack.encode(CheckpointHeader(TrainingId(7, _INITIAL.digest, _INITIAL.digest), 2, 31))
_EXAMPLES = examples.Examples(np.zeros((1, 28, 28), np.uint8), np.array([7], np.uint8))


def write() -> None:
    """Write the examples into the corpus, beside what runs have found."""
    for target, contents in _examples().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            (folder / f"seed-{number:02}").write_bytes(content)


def _examples() -> dict[str, list[bytes]]:
    vectors = json.loads((_VECTORS / "messages.json").read_bytes())
    family = {name: [bytes.fromhex(text) for text in vectors[name].values()] for name in vectors}
    snapshot = encode_snapshot(_SNAPSHOT)
    return {
        "mesh": family["mesh"],
        "head": [*family["mesh"], *_messages_with_more_in_them()],
        "statement": family["statement"],
        "to_leader": [*family["to leader"], *(b"".join(pad(1536, content)) for content in family["to leader"])],
        "to_participant": family["to participant"],
        "envelope": list(_envelopes()),
        "stream": [
            bytes([size]) + seal.seal_under_key(b"payload", ROUND_KEY, term=3, round=7) for size in (0, 30, 255)
        ],
        "revocations": [form for serials in ([7], [8, 2**150]) for form in _lists(serials)],
        "tensors": list(_models()),
        "encoded_update": list(_encoded_updates()),
        "datagram": [
            Header(kind, bytes(8), b"session_", bytes(8) if kind is Kind.HELLO else b"token___", 1).encode() + bytes(40)
            for kind in Kind
        ],
        "consensus": [consensus.encode(message) for message in _CONSENSUS],
        "snapshot": [snapshot],
        "log": list(_log_files(snapshot)),
        "certificate": list(_certificates()),
        "configuration": [text.encode() for text in _CONFIGURATIONS],
        "tokens": list(_tokens()),
        "checkpoint": [len(_CHECKPOINT).to_bytes(4, "little") + _CHECKPOINT + b"tensors"],
        "kept_update": [msgspec.msgpack.encode(_KEPT)],
        "residual": [msgspec.msgpack.encode(Residual(bytes(16), 3, memoryview(b"weights")))],
        "lineage": [
            form
            for models in ([_INITIAL], [_INITIAL, _NEXT])
            for form in (msgspec.msgpack.encode(models[-1]), msgspec.msgpack.encode(models))
        ],
        "shard": [examples.encode(_EXAMPLES, _EXAMPLES)],
        "opened_datagram": list(_opened_datagrams()),
    }


def _opened_datagrams() -> Iterator[bytes]:
    """Yield what ``inner_targets.opened_datagram`` takes: kind, length, content, as often as there is more."""
    hello = bytes([Kind.HELLO, 17]) + bytes(16) + b"\x01"
    bound = bytes([Kind.BOUND_HELLO, 17]) + bytes(16) + b"\x00"
    for message in _CONSENSUS:
        written = consensus.encode(message)[:255]
        yield bytes([Kind.DATA, len(written)]) + written
    yield hello
    yield bound
    yield hello + bound + bytes([Kind.DATA, 0])


def _messages_with_more_in_them() -> Iterator[bytes]:
    statement = Announcement(CLUSTER, "node1", 3, recipient().recipient.id, recipient().recipient.encoding)
    payload = encode(statement)
    yield encode(Signed(payload, b"certificate", signed_content(payload)[:70], memoryview(b"body")))


def _envelopes() -> Iterator[bytes]:
    vectors = json.loads((_VECTORS / "envelopes.json").read_bytes())
    for vector in (*vectors["golden"], *vectors["refused"][::4]):
        yield bytes.fromhex(vector["envelope"])
    yield _candidate()
    yield recipient().recipient.encoding
    yield recipient().recipient.encoding[:294]


def _candidate() -> bytes:
    return seal.seal_under_key(b"payload", ROUND_KEY, term=3, round=7)


def _lists(serials: list[int]) -> tuple[bytes, bytes]:
    revoked = revoke(authority(), serials, now=WHEN)
    return revoked.der, revoked.pem


def _models() -> Iterator[bytes]:
    """Yield the network alone, and with each state."""
    arrays = {tensor.name: np.ones(tensor.shape, np.float32) for tensor in LAYOUT}
    yield serialise_model(arrays, LAYOUT)
    for moment in get_args(Moment):
        arrays |= {state_name(moment, tensor.name): np.ones(tensor.shape, np.float32) for tensor in LAYOUT}
        yield serialise_model(arrays, LAYOUT)


def _encoded_updates() -> Iterator[bytes]:
    base = {tensor.name: np.ones(tensor.shape, np.float32) for tensor in LAYOUT}
    steps = {tensor.name: np.arange(count_of(tensor), dtype=np.float32).reshape(tensor.shape) for tensor in LAYOUT}
    update = {name: array + np.float32(0.3) * steps[name] for name, array in base.items()}
    for encoding in ENCODINGS:
        yield encode_update(update, base, LAYOUT, encoding)[0]


def _log_files(snapshot: bytes) -> Iterator[bytes]:
    """Yield a byte that says which file it is, and the file (``targets.log``)."""
    vote = msgspec.msgpack.encode(("vote", 3, "node1"))
    first = msgspec.msgpack.encode([("entry", consensus.Entry(1, 1, "no-op", b"node1")), ("commit", 1)])
    more = msgspec.msgpack.encode([("truncate", 2), ("entry", consensus.Entry(2, 3, "data", b"data"))])
    records = msgspec.msgpack.encode([("entry", consensus.Entry(n, 1, "no-op", b"a")) for n in (1, 2)])
    for payload in (first, msgspec.msgpack.encode([("begins", 0, 0)]), records):
        yield bytes([129]) + payload
        yield bytes([0]) + frames.frame(payload)
    yield bytes([0]) + frames.frame(records) + frames.frame(more)
    yield bytes([0]) + frames.frame(records) + frames.frame(more)[:-3]
    yield bytes([130]) + msgspec.msgpack.encode([("vote", 3, None)])
    yield bytes([1]) + frames.frame(b"\x91" + vote)
    yield bytes([128 + 3]) + snapshot
    yield bytes([2]) + frames.frame(snapshot)
    own = ("entry", consensus.Entry(1, 1, "no-op", b"node1"))
    for choice, written in (
        (129, [own, ("entry", _member_entry(2)), ("commit", 1)]),
        (192, [own, ("entry", _member_entry(2)), ("commit", 1)]),
        (192, [("begins", 2, 2), ("entry", _member_entry(3)), ("entry", _member_entry(4)), ("commit", 3)]),
    ):
        yield bytes([choice]) + msgspec.msgpack.encode(written)


def _member_entry(index: int) -> consensus.Entry:
    return consensus.Entry(index, 2, "members", encode_membership(Membership({"node1": "h"}, {"node2": "g"})))


def _certificates() -> Iterator[bytes]:
    key = new_key()
    own = authority()
    for host in ("", "127.0.0.1"):
        issued = own.issue("node1", key.public_key(), host=host, now=WHEN)
        yield issued.public_bytes(Encoding.DER)
        yield certificate_pem(issued)
    yield request_pem("node1", key)
    yield certificate_pem(own.certificate)
    yield own.certificate.public_bytes(Encoding.DER)
    yield key_pem(key)


def _tokens() -> Iterator[bytes]:
    yield Wallet(ROUND_KEY).ask(recipient().recipient.rsa, ROUND_KEY)
    yield b"\x07" * 256
    yield b"\x07" * 288
