"""Authenticated encryption of datagrams between two nodes. Pure: bytes in, bytes out.

A datagram is a header (version, the sender's tag, boot counter, message counter) and AES-256-GCM ciphertext, with the
header as associated data. Each ordered pair of nodes has its own key, derived from the cluster's secret. The nonce is
boot and message counter; the boot counter grows durably with each start, so no nonce is used twice under a key.
"""

import enum
import hashlib
import struct
from collections.abc import Collection
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName

DATAGRAM_LIMIT = 1400
"""Bytes of a datagram: fits an Ethernet frame, with room for a tunnel's headers."""

SECRET_SIZE = 32
WINDOW = 64
"""How far behind the newest a datagram may arrive, as in IPsec's anti-replay window (RFC 4303, 3.4.3)."""

_VERSION = 1
_HEADER = struct.Struct(">B8sIQ")
_NONCE = struct.Struct(">IQ")
_LABEL = b"p2pfl-node consensus datagram v1"
_GCM_TAG = 16

CONTENT_LIMIT = DATAGRAM_LIMIT - _HEADER.size - _GCM_TAG


class Refusal(enum.Enum):
    """Why a datagram is not opened; the value completes the sentence "consensus datagrams from X ..."."""

    GARBAGE = "are none of this protocol's version"
    UNKNOWN_SENDER = "name a sender that is no member of this cluster"
    WRONG_SECRET = "can't be opened: its cluster secret differs from ours"  # noqa: S105 - a sentence
    REPLAY = "are repeated or very late, and were dropped"
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


@dataclass(slots=True)
class ReplayWindow:
    """Which datagrams of one sender were taken: the newest, and a bit for each of the 64 up to it."""

    boot: int = 0
    newest: int = 0
    taken: int = 0

    def accept(self, boot: int, counter: int) -> bool:
        """Say whether an authentic datagram is new, and remember it."""
        if boot < self.boot:
            return False
        if boot > self.boot:
            self.boot, self.newest, self.taken = boot, counter, 1
            return True
        if counter > self.newest:
            self.taken = (self.taken << min(counter - self.newest, WINDOW) | 1) & (2**WINDOW - 1)
            self.newest = counter
            return True
        age = self.newest - counter
        if age >= WINDOW or self.taken >> age & 1:
            return False
        self.taken |= 1 << age
        return True


class Sealer:
    """Seals to, and opens from, the peers of one node.

    Args:
        secret: of the whole cluster, 32 random bytes.
        boot: larger at each start of this node, and at least 1 (``datagrams.boot``).
    """

    def __init__(self, *, cluster: str, me: NodeName, peers: Collection[NodeName], secret: bytes, boot: int) -> None:
        if len(secret) != SECRET_SIZE:
            raise ValueError(f"the cluster's secret has {SECRET_SIZE} bytes")
        self._cluster = cluster
        self._me = me
        self._secret = secret
        self._tag = tag_of(me)
        self._boot = boot
        self._counter = 0
        self._windows: dict[NodeName, ReplayWindow] = {}
        self.set_peers(peers)

    def set_peers(self, peers: Collection[NodeName]) -> None:
        """Seal to and open from these from now on, and nobody else."""
        secret, cluster, me = self._secret, self._cluster, self._me
        self._to = {peer: AESGCM(_key(secret, cluster, me, peer)) for peer in peers}
        self._from = {peer: AESGCM(_key(secret, cluster, peer, me)) for peer in peers}
        self._windows = {peer: self._windows.get(peer) or ReplayWindow() for peer in peers}
        self._senders = {tag_of(peer): peer for peer in peers}

    def seal(self, peer: NodeName, content: bytes) -> bytes:
        """Return a datagram that only ``peer`` can open, once."""
        if len(content) > CONTENT_LIMIT:
            raise ValueError(f"a datagram carries at most {CONTENT_LIMIT} bytes")
        self._counter += 1
        header = _HEADER.pack(_VERSION, self._tag, self._boot, self._counter)
        return header + self._to[peer].encrypt(_NONCE.pack(self._boot, self._counter), content, header)

    def open(self, datagram: bytes) -> tuple[NodeName, bytes]:
        """Return the sender and the content of a datagram. Raises RefusedError."""
        if not _HEADER.size + _GCM_TAG <= len(datagram) <= DATAGRAM_LIMIT:
            raise RefusedError(Refusal.GARBAGE, None)
        header = datagram[: _HEADER.size]
        version, tag, boot, counter = _HEADER.unpack(header)
        if version != _VERSION:
            raise RefusedError(Refusal.GARBAGE, None)
        sender = self._senders.get(tag)
        if sender is None:
            raise RefusedError(Refusal.UNKNOWN_SENDER, None)
        try:
            content = self._from[sender].decrypt(_NONCE.pack(boot, counter), datagram[_HEADER.size :], header)
        except InvalidTag:
            raise RefusedError(Refusal.WRONG_SECRET, sender) from None
        # Only what is authentic may move the window, or anybody could shut a peer out.
        if not self._windows[sender].accept(boot, counter):
            raise RefusedError(Refusal.REPLAY, sender)
        return sender, content


def tag_of(node: NodeName) -> bytes:
    """Return the 8 bytes that stand for a node's name in headers."""
    return hashlib.sha256(node.encode()).digest()[:8]


def _key(secret: bytes, cluster: str, sender: NodeName, receiver: NodeName) -> bytes:
    names = (name.encode() for name in (cluster, sender, receiver))
    # Lengths keep two different triples of names from ever being the same bytes.
    info = _LABEL + b"".join(struct.pack(">H", len(name)) + name for name in names)
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)
