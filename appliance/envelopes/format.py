"""The envelope's header: parsed and formatted, with no cryptography (docs/protocol.md, section 2).

Offsets in bytes, integers big-endian::

    0   4  magic "p2pE"
    4   1  format version, 1
    5   1  kind: 1 to the leader, 2 to a participant, 3 candidate
    6   2  length W of the wrapped content key: 256, 384 or 512, or 1088 more in the hybrid suite; 0 for a candidate
    8   8  term, below 2**62
    16  8  round, below 2**62
    24 32  key id
    56 16  salt
    72  W  wrapped content key
"""

import struct
from enum import IntEnum

from msgspec import Struct

from appliance.words.errors import RemoteError
from appliance.words.parts import Content

MAGIC = b"p2pE"
FORMAT_VERSION = 1
KEY_ID_BYTES = 32
SALT_BYTES = 16
KEM_BYTES = 1088
"""Of an ML-KEM-768 ciphertext (FIPS 203, table 3)."""

WRAPPED_LENGTHS = (256, 384, 512, 256 + KEM_BYTES, 384 + KEM_BYTES, 512 + KEM_BYTES)
"""Of RSA-2048, RSA-3072 and RSA-4096; in the hybrid suite with an ML-KEM-768 ciphertext after it."""

_FIXED = struct.Struct(f">4sBBHQQ{KEY_ID_BYTES}s{SALT_BYTES}s")
_NUMBER_LIMIT = 2**62


class Kind(IntEnum):
    """Who is meant to open an envelope."""

    TO_LEADER = 1
    TO_PARTICIPANT = 2
    CANDIDATE = 3


class HeaderStart(Struct, frozen=True):
    """What the first 72 bytes of an envelope say: enough to tell who can open it."""

    kind: Kind
    wrapped_length: int
    term: int
    round: int
    key_id: bytes
    salt: bytes


class Header(Struct, frozen=True):
    """An envelope's header; all of it is authenticated by every chunk that follows.

    Attributes:
        key_id: 32 bytes; of the recipient's public key, or of the round key.
        salt: 16 random bytes, fresh for each envelope.
        wrapped: the content key, wrapped to the recipient; empty for a candidate, whose round key both sides hold.
    """

    kind: Kind
    term: int
    round: int
    key_id: bytes
    salt: bytes
    wrapped: bytes

    @property
    def size(self) -> int:
        """Length of the header in bytes."""
        return _FIXED.size + len(self.wrapped)


def format_header(header: Header) -> bytes:
    """Return a header's bytes.

    Raises:
        ValueError: a field has no legal size; that is the caller's mistake.
    """
    problem = _problem(header)
    if problem:
        raise ValueError(problem)
    fixed = _FIXED.pack(
        MAGIC,
        FORMAT_VERSION,
        header.kind,
        len(header.wrapped),
        header.term,
        header.round,
        header.key_id,
        header.salt,
    )
    return fixed + header.wrapped


def peek_header(envelope: Content) -> HeaderStart:
    """Parse the first 72 bytes of an envelope, which may be all that is there of it.

    Raises:
        RemoteError: these bytes begin no header of this version.
    """
    if len(envelope) < _FIXED.size:
        raise RemoteError("envelope: cut short in its header")
    magic, version, kind, wrapped_length, term, round_, key_id, salt = _FIXED.unpack_from(envelope)
    if magic != MAGIC:
        raise RemoteError("envelope: is none (wrong magic)")
    if version != FORMAT_VERSION:
        raise RemoteError(f"envelope: format version {version} is unknown")
    try:
        kind = Kind(kind)
    except ValueError:
        raise RemoteError(f"envelope: kind {kind} is unknown") from None
    return HeaderStart(kind, wrapped_length, term, round_, key_id, salt)


def parse_header(envelope: Content) -> Header:
    """Parse the header at the start of an envelope; what follows is not looked at.

    Raises:
        RemoteError: these bytes are no header of this version.
    """
    start = peek_header(envelope)
    if len(envelope) < _FIXED.size + start.wrapped_length:
        raise RemoteError("envelope: cut short in its header")
    header = Header(
        kind=start.kind,
        term=start.term,
        round=start.round,
        key_id=start.key_id,
        salt=start.salt,
        wrapped=bytes(envelope[_FIXED.size : _FIXED.size + start.wrapped_length]),
    )
    problem = _problem(header)
    if problem:
        raise RemoteError(f"envelope: {problem}")
    return header


def _problem(header: Header) -> str:
    """Return what is wrong with a header's sizes; empty if nothing is."""
    legal = (0,) if header.kind is Kind.CANDIDATE else WRAPPED_LENGTHS
    if len(header.wrapped) not in legal:
        return f"a wrapped key of {len(header.wrapped)} bytes is not allowed for this kind"
    if not (0 <= header.term < _NUMBER_LIMIT and 0 <= header.round < _NUMBER_LIMIT):
        return "the term or the round is out of range"
    if len(header.key_id) != KEY_ID_BYTES or len(header.salt) != SALT_BYTES:
        return "the key id or the salt has a wrong length"
    return ""
