"""One function for each parser: it takes any bytes, and only the errors that the parser documents stay in it.

Whatever else comes out is a finding. Where a parser has a writer, what was parsed is also written and parsed again: the
two must agree. Written forms are compared and not values, for NaN is not equal to itself.
"""

import atexit
import contextlib
import dataclasses
import functools
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
from cryptography import x509

from appliance.aggregation.encoding import encode
from appliance.aggregation.state import parse_model, serialise_model
from appliance.aggregation.validation import is_finite, parse_update
from appliance.consensus import membership
from appliance.consensus import messages as consensus_messages
from appliance.consensus.log import Log
from appliance.consensus.snapshot import Snapshot, decode_snapshot, encode_snapshot
from appliance.datagrams import sealing
from appliance.delivery.padding import BLOCK, pad, padded_length, unpad
from appliance.envelopes import keys, seal
from appliance.envelopes.format import format_header, parse_header, peek_header
from appliance.envelopes.keys import PrivateKey
from appliance.envelopes.streaming import Opener
from appliance.mesh.head import HEAD_BYTES, read_head
from appliance.node import config, template
from appliance.pki.authority import Authority
from appliance.pki.certificates import MALFORMED, cluster_of, has_signed, is_issued_by, node_name_of
from appliance.pki.identity import read_certificate
from appliance.pki.revocations import parse_list
from appliance.pki.statements import StatementVerifier
from appliance.storage import frames
from appliance.storage.log import ConsensusLog
from appliance.tokens import blind
from appliance.tokens.mint import Mint
from appliance.tokens.token import Token
from appliance.tokens.wallet import Wallet
from appliance.words import messages
from appliance.words.errors import OperatorError, RemoteError, StateError
from appliance.words.models import Encoding, TensorLayout
from tests.fuzz import inner_targets as inner
from tests.fuzz.structure import FRAMED
from tests.unit.aggregation.layouts import decode
from tests.vectors import make_envelopes as vectors

Target = Callable[[bytes], None]

ROUND_KEY = bytes(range(32))
LAYOUT = (TensorLayout("bias", "F32", (2,)), TensorLayout("weight", "F32", (2, 3)))
ENCODINGS: tuple[Encoding, ...] = ("float32", "float16", "int8")
MEMBERS = ("node1", "node2", "node3")
CLUSTER = "demo"
WHEN = datetime(2026, 6, 1, tzinfo=UTC)
"""The certificates in the corpus are valid then."""

WITH_SNAPSHOT = 0x40
"""In the first byte of what ``log`` takes: a snapshot lies beside the log."""

_BESIDE_A_LOG = Snapshot(2, 2, membership.of(MEMBERS), {}, None, {}, b"")
_AUTHORITY = Path(__file__).with_name("authority.pem")
_SCRATCH = tempfile.TemporaryDirectory(
    prefix="p2pfl-fuzz-",
    dir="/dev/shm" if Path("/dev/shm").is_dir() else None,  # noqa: S108 - memory is quicker
)
atexit.register(_SCRATCH.cleanup)


def recipient() -> PrivateKey:
    """Return the private key of the test vectors."""
    return vectors.recipient(hybrid=True)


def authority() -> Authority:
    """Return the authority of the certificates in the corpus."""
    return Authority.parse(_AUTHORITY.read_bytes(), _AUTHORITY.read_bytes())


_RECIPIENT, _PLAIN = recipient(), vectors.recipient(hybrid=False)
_CA = authority()
_VERIFIER = StatementVerifier(_CA.certificate, CLUSTER, MEMBERS, lambda: WHEN)


def mesh(content: bytes) -> None:
    """A message of the mesh."""
    try:
        message = messages.decode_mesh(content)
    except RemoteError:
        return
    written = messages.encode(message)
    assert messages.encode(messages.decode_mesh(written)) == written


def head(content: bytes) -> None:
    """The first bytes of a message of the mesh, which must not say another thing than the whole of it."""
    try:
        said = read_head(content[:HEAD_BYTES], len(content))
        message = messages.decode_mesh(content)
    except RemoteError:
        return
    assert said.type == type(message).__name__
    if said.envelope is None and said.term is not None and not isinstance(message, messages.Signed):
        assert said.term == getattr(message, "term", said.term)


def statement(content: bytes) -> None:
    """What a leader signed."""
    try:
        message = messages.decode_statement(content)
    except RemoteError:
        return
    written = messages.encode(message)
    assert messages.encode(messages.decode_statement(written)) == written


def to_leader(content: bytes) -> None:
    """The content of an envelope for the leader, with its padding and without."""
    for unpadded in (False, True):
        try:
            part = memoryview(content) if unpadded else unpad(content)
            message = messages.decode_to_leader(part)
        except RemoteError:
            continue
        written = messages.encode(message)
        again = unpad(b"".join(pad(padded_length(len(written)) + BLOCK, written)))
        assert again == written
        assert messages.encode(messages.decode_to_leader(again)) == written


def to_participant(content: bytes) -> None:
    """The content of an envelope for a participant."""
    try:
        message = messages.decode_to_participant(content)
    except RemoteError:
        return
    written = messages.encode(message)
    assert messages.encode(messages.decode_to_participant(written)) == written


def envelope(content: bytes) -> None:
    """A sealed envelope: its header, and all of it with a key that the corpus was made with."""
    try:
        start = peek_header(content)
        header = parse_header(content)
        assert (header.kind, header.term, header.key_id) == (start.kind, start.term, start.key_id)
        assert format_header(header) == content[: header.size]
    except RemoteError:
        pass
    for open_with in (
        lambda: seal.open_envelope(content, _RECIPIENT),
        lambda: seal.open_envelope(content, _PLAIN),
        lambda: seal.open_under_key(content, ROUND_KEY),
        lambda: keys.load_recipient(content, "rsa"),
        lambda: keys.load_recipient(content, "rsa+mlkem768"),
    ):
        try:
            open_with()
        except RemoteError:
            continue


def stream(content: bytes) -> None:
    """An envelope that comes in pieces; the first byte says how long they are. It says what the whole one says."""
    size, envelope_ = 1 + (content[0] if content else 0), content[1:]
    try:
        whole = seal.open_under_key(envelope_, ROUND_KEY)
    except RemoteError:
        whole = None
    opener = Opener(lambda header: seal.round_key_of(header, ROUND_KEY))
    try:
        parts = [part for at in range(0, len(envelope_), size) for part in opener.feed(envelope_[at : at + size])]
        pieces = b"".join([*parts, opener.finish()])
    except RemoteError:
        assert whole is None
        return
    assert pieces == whole


def revocations(content: bytes) -> None:
    """A revocation list."""
    try:
        found = parse_list(content, _CA.certificate)
    except RemoteError:
        return
    assert parse_list(found.der, _CA.certificate) == found


def model(content: bytes) -> None:
    """A model's bytes in safetensors form, with a strategy's state or without."""
    try:
        arrays = parse_model(content, LAYOUT)
    except RemoteError:
        return
    written = serialise_model(arrays, LAYOUT)
    assert serialise_model(parse_model(written, LAYOUT), LAYOUT) == written
    try:
        update = parse_update(content, LAYOUT)
    except RemoteError:
        return
    assert update.keys() == {tensor.name for tensor in LAYOUT}


def encoded_update(content: bytes) -> None:
    """An update in each of the encodings. What is decoded is finite, and can be encoded again, with its residual."""
    base = {tensor.name: np.ones(tensor.shape, np.float32) for tensor in LAYOUT}
    for encoding in ENCODINGS:
        try:
            arrays = decode(content, base, LAYOUT, encoding)
        except RemoteError:
            continue
        assert all(is_finite(array) for array in arrays.values())
        written, lost = encode(arrays, base, LAYOUT, encoding)
        again = decode(encode(arrays, base, LAYOUT, encoding, lost)[0], base, LAYOUT, encoding)
        assert [(name, array.shape) for name, array in again.items()] == [(each.name, each.shape) for each in LAYOUT]
        assert all(is_finite(array) for array in decode(written, base, LAYOUT, encoding).values())


def datagram(content: bytes) -> None:
    """A datagram of consensus: what is in clear of it."""
    try:
        sealing.parse(content)
    except RemoteError:
        return


def consensus(content: bytes) -> None:
    """A message of consensus."""
    try:
        message = consensus_messages.decode(content)
    except RemoteError:
        return
    written = consensus_messages.encode(message)
    assert consensus_messages.encode(consensus_messages.decode(written)) == written


def snapshot(content: bytes) -> None:
    """A snapshot of consensus."""
    try:
        parsed = decode_snapshot(content)
    except RemoteError:
        return
    written = encode_snapshot(parsed)
    assert encode_snapshot(decode_snapshot(written)) == written
    assert parsed.ledger is not None


def log(content: bytes) -> None:
    """The files of consensus on disk. The first byte says which: as they are, or as the payload of a sound frame; and
    whether a log has a snapshot beside it.

    A checksum stops a fuzzer, and not someone who can write files: so it is put right here. What is opened is what
    consensus begins with, which must be able to.
    """
    if not content:
        return
    name, framed = ("log", "vote", "snapshot")[content[0] % 3], content[0] & FRAMED
    folder = Path(_SCRATCH.name) / "log"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    if name != "vote":
        (folder / "vote").write_bytes(frames.frame(msgspec.msgpack.encode([("vote", 2**61, "node1")])))
    if content[0] & WITH_SNAPSHOT:
        (folder / "snapshot").write_bytes(frames.frame(encode_snapshot(_BESIDE_A_LOG)))
    (folder / name).write_bytes(frames.frame(content[1:]) if framed else content[1:])
    try:
        with ConsensusLog(folder) as opened:
            found = opened.hard_state, dataclasses.replace(opened.kept, entries=tuple(opened.kept.entries))
    except StateError:
        return
    Log(opened.kept, opened.hard_state.commit, membership.of(MEMBERS))
    with ConsensusLog(folder) as opened:
        again = opened.hard_state, dataclasses.replace(opened.kept, entries=tuple(opened.kept.entries))
    assert again == found, "opening it changed what it says"


def certificate(content: bytes) -> None:
    """A certificate from a peer (DER) or from a file (PEM), and a request for one."""
    with contextlib.suppress(RemoteError):
        _VERIFIER.verify(messages.Signed(b"payload", content, content[:256]))
    file = Path(_SCRATCH.name) / "certificate.pem"
    file.write_bytes(content)
    for read in (
        lambda: read_certificate(file),
        lambda: _CA.issue_from_request(content),
        lambda: Authority.parse(_AUTHORITY.read_bytes(), content),
    ):
        try:
            read()
        except OperatorError:
            continue
    try:
        parsed = x509.load_der_x509_certificate(content)
    except MALFORMED:
        return
    node_name_of(parsed)
    is_issued_by(parsed, _CA.certificate)
    has_signed(parsed, content[:70], content)
    cluster_of(parsed)


def configuration(content: bytes) -> None:
    """A configuration file; what it says is written as another file, which must say the same."""
    file = Path(_SCRATCH.name) / "node.toml"
    file.write_bytes(content)
    try:
        read = config.load(file)
    except OperatorError:
        return
    file.write_text(template.render(read))
    assert config.load(file) == read


def tokens(content: bytes) -> None:
    """What members and leaders send each other about tokens: the blinded message, its signature, and the token."""
    mint = Mint(_RECIPIENT.rsa, lambda length: b"\x05" * length)
    wallet = Wallet(ROUND_KEY)
    for use in (
        lambda: mint.sign("node1", content),
        lambda: wallet.take(_RECIPIENT.recipient.rsa, ROUND_KEY, content),
        lambda: mint.check(Token(content[:32], content[32:])),
        lambda: blind.verify(b"message", content, _RECIPIENT.recipient.rsa),
    ):
        try:
            use()
        except RemoteError:
            continue


TARGETS: dict[str, Target] = {
    "mesh": mesh,
    "head": head,
    "statement": statement,
    "to_leader": to_leader,
    "to_participant": to_participant,
    "envelope": envelope,
    "stream": stream,
    "revocations": revocations,
    "tensors": model,
    "encoded_update": encoded_update,
    "datagram": datagram,
    "consensus": consensus,
    "snapshot": snapshot,
    "log": log,
    "certificate": certificate,
    "configuration": configuration,
    "tokens": tokens,
    "checkpoint": functools.partial(inner.checkpoint, scratch=Path(_SCRATCH.name)),
    "kept_update": functools.partial(inner.kept_update, scratch=Path(_SCRATCH.name)),
    "residual": functools.partial(inner.residual, scratch=Path(_SCRATCH.name)),
    "lineage": inner.lineage,
    "shard": functools.partial(inner.shard, scratch=Path(_SCRATCH.name)),
    "opened_datagram": inner.opened_datagram,
}
