"""The typed messages of the mesh, and their encoding (msgpack).

Three families. What every node may read travels as it is (``MeshMessage``). What the leader says to all is signed with
its node certificate (``Signed`` around ``LeaderStatement``). What only one recipient may read is the content of an
envelope (``ToLeader`` and ``ToParticipant``; the envelope itself is a ``Sealed``). Paper: "all messages are broadcast;
an encrypted one only its recipient can read".

What may be as large as a model is the last field of its message, and encoded without a copy (``words.parts``).
"""

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from appliance.words.errors import RemoteError
from appliance.words.ids import Digest, Identifier, NodeName, Round, Term, Version
from appliance.words.models import Encoding, Metrics, SampleCount
from appliance.words.parts import NOTHING, Content

T = TypeVar("T")

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
PublicKey = Annotated[bytes, Meta(min_length=256, max_length=2048)]
"""An RSA public key, DER, SubjectPublicKeyInfo."""
ReplySecret = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""Random bytes; the answer is sealed to them and to the reply key beside them. Only in what is sealed to the leader."""
Count = Annotated[int, Meta(ge=0, le=100_000)]
Reason = Annotated[str, Meta(max_length=300)]
Seconds = Annotated[float, Meta(ge=0.0, le=1e9)]
UpdateId = Annotated[bytes, Meta(min_length=16, max_length=16)]
TokenBytes = Annotated[bytes, Meta(min_length=256, max_length=512)]
"""A number below the modulus of the round's token key, big-endian, as long as the modulus (RFC 9474)."""
Nonce = Annotated[bytes, Meta(min_length=32, max_length=32)]
ExchangeKey = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""An X25519 public key (RFC 7748), used for one agreement."""


class _Message(Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    pass


# --- what the leader says to all, signed -----------------------------------------------------------------------------


class Announcement(_Message, frozen=True):
    """The leader's fresh public key, to which everything for it is sealed."""

    cluster: str
    leader: NodeName
    term: Term
    key_id: Identifier
    public_key: PublicKey


class Opening(_Message, frozen=True):
    """A round is open on a base model; said again each second or so with the round's progress.

    Attributes:
        accepted: updates counted so far.
        expected: nodes that are live, so updates that can come.
        quorum: updates needed to close at the deadline.
        deadline_s: seconds left until the deadline when this was sent.
        token_key: the leader's key for the tokens of this round alone, RSA.
        deliver: finished updates may be sent now. False while others still train: updates that come when they are
            finished would tell the leader whose they are, by who is fast.
        encoding: how the updates of this round must be encoded, all of them: so their lengths tell nothing.
    """

    cluster: str
    leader: NodeName
    term: Term
    round: Round
    base_version: Version
    base: Digest
    key_id: Identifier
    accepted: Count
    expected: Count
    quorum: Count
    deadline_s: Seconds
    token_key: PublicKey
    deliver: bool
    encoding: Encoding


class Candidate(_Message, frozen=True):
    """An aggregated model that is to be made durable by a majority before it is committed (invariant 3).

    Its bytes travel beside it (``Signed.body``), sealed under the round key that came with each receipt; a node without
    that key asks for them by digest.
    """

    cluster: str
    leader: NodeName
    term: Term
    round: Round
    version: Version
    digest: Digest


LeaderStatement = Announcement | Opening | Candidate

# --- what every node may read ----------------------------------------------------------------------------------------


class Signed(_Message, frozen=True):
    """A leader's statement with the signature of its node certificate over ``payload``.

    Attributes:
        payload: an encoded ``LeaderStatement``.
        certificate: the signer's certificate, DER.
        signature: ECDSA P-256 with SHA-256.
        body: for a ``Candidate``, the model's bytes sealed under the round key, or empty; authenticated by the
            digest in the payload.
    """

    payload: Annotated[bytes, Meta(max_length=8192)]
    certificate: Annotated[bytes, Meta(max_length=4096)]
    signature: Annotated[bytes, Meta(max_length=256)]
    body: memoryview = NOTHING


class Sealed(_Message, frozen=True):
    """An envelope; who can open it is in its header (the key's id), who sent it is nowhere."""

    envelope: memoryview


class Stored(_Message, frozen=True):
    """The sender holds these model bytes durably (answer to a ``Candidate``)."""

    term: Term
    round: Round
    digest: Digest


class Participation(_Message, frozen=True):
    """Whether the sender can take part in a round: one that can't train now is live, and yet not waited for."""

    term: Term
    round: Round
    able: bool


class Finished(_Message, frozen=True):
    """The sender's update for a round is finished, and waits until all may be sent."""

    term: Term
    round: Round


class ModelWanted(_Message, frozen=True):
    """The leader lacks the committed model's bytes; whoever holds them seals them to this fresh key."""

    digest: Digest
    public_key: PublicKey


class ResignWanted(_Message, frozen=True):
    """An operator asks the leader of this term to hand over."""

    term: Term


class SnapshotWanted(_Message, frozen=True):
    """The sender lacks entries that the leader's log has no more: it asks for what they amount to."""

    term: Term


class SnapshotReply(_Message, frozen=True):
    """A snapshot of consensus, encoded as ``appliance.consensus.snapshot`` says."""

    term: Term
    snapshot: bytes


class HandedOn(_Message, frozen=True):
    """An envelope for the leader on its way along a stem of peers: the receiver hands it on, or delivers it."""

    envelope: memoryview


class TokenWanted(_Message, frozen=True):
    """A member asks the leader to sign, blindly, the one token with which its update of this round may count."""

    term: Term
    round: Round
    blinded: TokenBytes


class TokenSigned(_Message, frozen=True):
    """The leader's blind signature over what the member sent, for that member alone."""

    term: Term
    round: Round
    signature: TokenBytes


class Revocations(_Message, frozen=True):
    """The newest revocation list of the cluster's authority that the sender has: an X.509 CRL, DER."""

    content: Annotated[bytes, Meta(max_length=65_536)]


class DatagramKeyWanted(_Message, frozen=True):
    """The sender has no key for consensus datagrams that the receiver would know: please offer one."""


class DatagramKeyOffer(_Message, frozen=True):
    """One side of an agreement on the keys of consensus datagrams between two nodes."""

    public_key: ExchangeKey


class DatagramKeyAnswer(_Message, frozen=True):
    """The other side of it, for the offer that it repeats."""

    offered: ExchangeKey
    public_key: ExchangeKey


MeshMessage = (
    Signed
    | Sealed
    | Stored
    | Participation
    | Finished
    | ModelWanted
    | ResignWanted
    | SnapshotWanted
    | SnapshotReply
    | HandedOn
    | TokenWanted
    | TokenSigned
    | Revocations
    | DatagramKeyWanted
    | DatagramKeyOffer
    | DatagramKeyAnswer
)

# --- content of envelopes ---------------------------------------------------------------------------------------------


class Update(_Message, frozen=True):
    """A participant's trained weights for a round. Nothing in it says whose they are.

    Attributes:
        nonce, token: a token of the round (``appliance.tokens``): that some member made this, and only this.
        encoding: of ``weights``; what the round's ``Opening`` says, or the update is refused.
    """

    update_id: UpdateId
    nonce: Nonce
    token: TokenBytes
    round: Round
    base: Digest
    samples: SampleCount
    metrics: Metrics
    reply_key: PublicKey
    reply_secret: ReplySecret
    encoding: Encoding
    weights: memoryview


class ModelRequest(_Message, frozen=True):
    """A participant asks the leader for a model's bytes (paper: model fetch initiated by a follower)."""

    digest: Digest
    reply_key: PublicKey
    reply_secret: ReplySecret


ToLeader = Update | ModelRequest


class Receipt(_Message, frozen=True):
    """The leader's sealed answer to an update.

    Attributes:
        accepted: whether the update counts in the round.
        reason: why not; empty if it does.
        round_key: opens the round's candidate.
    """

    update_id: UpdateId
    accepted: bool
    reason: Reason
    round_key: Key


class ModelReply(_Message, frozen=True):
    """A model's bytes, for the one who asked."""

    digest: Digest
    weights: memoryview


ToParticipant = Receipt | ModelReply

_encoder = msgspec.msgpack.Encoder()
_mesh_decoder: msgspec.msgpack.Decoder[MeshMessage] = msgspec.msgpack.Decoder(MeshMessage)
_statement_decoder: msgspec.msgpack.Decoder[LeaderStatement] = msgspec.msgpack.Decoder(LeaderStatement)
_to_leader_decoder: msgspec.msgpack.Decoder[ToLeader] = msgspec.msgpack.Decoder(ToLeader)
_to_participant_decoder: msgspec.msgpack.Decoder[ToParticipant] = msgspec.msgpack.Decoder(ToParticipant)


def encode(message: MeshMessage | LeaderStatement | ToLeader | ToParticipant) -> bytes:
    """Return a message's bytes."""
    return _encoder.encode(message)


def decode_mesh(content: Content) -> MeshMessage:
    """Parse a message of the mesh. Raises RemoteError if the bytes are no such message."""
    return _decode(_mesh_decoder, content)


def decode_statement(content: bytes) -> LeaderStatement:
    """Parse what a leader signed. Raises RemoteError if the bytes are no such statement."""
    return _decode(_statement_decoder, content)


def decode_to_leader(content: bytes | memoryview) -> ToLeader:
    """Parse the content of an envelope for a leader. Raises RemoteError."""
    return _decode(_to_leader_decoder, content)


def decode_to_participant(content: bytes | memoryview) -> ToParticipant:
    """Parse the content of an envelope for a participant. Raises RemoteError."""
    return _decode(_to_participant_decoder, content)


def _decode(decoder: msgspec.msgpack.Decoder[T], content: Content) -> T:
    try:
        return decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteError(f"not a message of the protocol{_quotable(str(error))}") from None


def _quotable(problem: str) -> str:
    """Return those of msgspec's sentences that name our types and fields only.

    Others quote the peer's bytes (an unknown field's name) or positions in them: a hostile peer could write into the
    log, and each message would be a new reason there.
    """
    return f": {problem}" if problem.startswith(("Expected `", "Object missing required field")) else ""
