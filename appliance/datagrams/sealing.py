"""Datagrams as bytes: a header and AES-256-GCM, with a key of its own for each ordered pair of nodes. Pure.

The header is authenticated with the content. What makes a datagram fresh is in it: see ``association``.
"""

import enum
import hashlib
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName

DATAGRAM_LIMIT = 1400
"""Bytes of a datagram: fits an Ethernet frame, with room for a tunnel's headers."""

SECRET_SIZE = 32
SESSION_SIZE = TOKEN_SIZE = 8
NO_TOKEN = bytes(TOKEN_SIZE)
LAST_COUNTER = 2**32 - 1

_VERSION = 2
_HEADER = struct.Struct(">BB8s8s8sI")
_LABEL = b"p2pfl-node consensus datagram v2"
_GCM_TAG = 16

CONTENT_LIMIT = DATAGRAM_LIMIT - _HEADER.size - _GCM_TAG


class Refusal(enum.Enum):
    """Why a datagram is not opened; the value completes the sentence "consensus datagrams from X ..."."""

    GARBAGE = "are none of this protocol's version"
    UNKNOWN_SENDER = "name a sender that is no member of this cluster"
    NO_KEY = "came before a key was agreed with it, or after, under an earlier one"
    WRONG_KEY = "can't be opened with the key that was agreed with it"
    REPLAY = "are repeated or very late, and were dropped"
    STALE = "are for an earlier start of this node or its sender, and were dropped"
    UNSOUND = "hold no sound message of consensus"


class RefusedError(RemoteError):
    """A datagram that is not opened.

    Attributes:
        sender: who it claims to be from; None if that is no member.
    """

    def __init__(self, refusal: Refusal, sender: NodeName | None) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal
        self.sender = sender


class Kind(enum.IntEnum):
    """What a datagram is for."""

    HELLO = 0
    """Bound to nothing: says who is there, and with which token to answer."""
    BOUND_HELLO = 1
    """Bound to the receiver's token, so it is fresh: gives the token to bind to from now on."""
    DATA = 2


class Header(Struct, frozen=True):
    """The part of a datagram that everybody can read.

    Attributes:
        tag: stands for the sender's name.
        session: random, chosen by the sender when it started.
        token: given by the receiver for that session; none in a ``HELLO``.
        counter: from 1, never twice in a session.
    """

    kind: Kind
    tag: bytes
    session: bytes
    token: bytes
    counter: int

    def encode(self) -> bytes:
        """Return its bytes."""
        return _HEADER.pack(_VERSION, self.kind, self.tag, self.session, self.token, self.counter)

    @property
    def nonce(self) -> bytes:
        """Never twice under a key: the session is random, and the counter only grows."""
        return self.session + struct.pack(">I", self.counter)


def parse(datagram: bytes) -> tuple[Header, bytes]:
    """Return header and ciphertext. Raises RefusedError if there are none."""
    if not _HEADER.size + _GCM_TAG <= len(datagram) <= DATAGRAM_LIMIT:
        raise RefusedError(Refusal.GARBAGE, None)
    version, kind, tag, session, token, counter = _HEADER.unpack(datagram[: _HEADER.size])
    if version != _VERSION or kind > Kind.DATA or (kind == Kind.HELLO) != (token == NO_TOKEN):
        raise RefusedError(Refusal.GARBAGE, None)
    return Header(Kind(kind), tag, session, token, counter), datagram[_HEADER.size :]


class Cipher:
    """The key from one node to another."""

    def __init__(self, *, cluster: str, sender: NodeName, receiver: NodeName, secret: bytes) -> None:
        if len(secret) != SECRET_SIZE:
            raise ValueError(f"the secret of a pair has {SECRET_SIZE} bytes")
        names = (name.encode() for name in (cluster, sender, receiver))
        # Lengths keep two different triples of names from ever being the same bytes.
        info = _LABEL + b"".join(struct.pack(">H", len(name)) + name for name in names)
        self._key = AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret))
        self._sender = sender

    def seal(self, header: Header, content: bytes) -> bytes:
        """Return a datagram. Raises ValueError if the content is longer than ``CONTENT_LIMIT``."""
        if len(content) > CONTENT_LIMIT:
            raise ValueError(f"a datagram carries at most {CONTENT_LIMIT} bytes")
        clear = header.encode()
        return clear + self._key.encrypt(header.nonce, content, clear)

    def open(self, header: Header, ciphertext: bytes) -> bytes:
        """Return the content. Raises RefusedError if it, or its header, is not what was sealed."""
        try:
            return self._key.decrypt(header.nonce, ciphertext, header.encode())
        except InvalidTag:
            raise RefusedError(Refusal.WRONG_KEY, self._sender) from None


def tag_of(node: NodeName) -> bytes:
    """Return the 8 bytes that stand for a node's name in headers."""
    return hashlib.sha256(node.encode()).digest()[:8]
