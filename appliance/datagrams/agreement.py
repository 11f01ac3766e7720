"""How two nodes agree on the secret of their consensus datagrams, over the mesh. Pure but for the library's X25519.

The mesh is mutual TLS: it proves who an offer comes from, and nobody else reads or changes it. So the cluster's
authority is the only root of trust, and who is out of the mesh is out of consensus too. Of a pair, the node whose name
sorts first offers; the other one answers. Both use a fresh X25519 key (RFC 7748) for each agreement: no two agreements,
and no two starts of a node, have the same secret, and one that leaks opens nothing from before or after its hour.

    a -> b   DatagramKeyOffer   A           a has drawn A for this
    b -> a   DatagramKeyAnswer  A, B        b has drawn B for this; both derive the secret
    b -> a   DatagramKeyWanted              b has none, and waits for an offer

Any of these may be lost, doubled or late: ``a`` offers anew until it has an answer to its newest offer; ``b`` takes
what it answered last, and gives a doubled offer the same answer. Whatever goes wrong all the same, such as an old offer
that comes after a newer one, is mended when the two don't hear each other: they agree again.
"""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.datagrams.sealing import SECRET_SIZE
from appliance.words.errors import RemoteError
from appliance.words.ids import Monotonic, NodeName
from appliance.words.messages import DatagramKeyAnswer, DatagramKeyOffer, DatagramKeyWanted
from appliance.words.random import RandomBytes

KeyMessage = DatagramKeyWanted | DatagramKeyOffer | DatagramKeyAnswer

RENEWED_EVERY_S = 3600.0
KEPT_AT_MOST_S = 86_400.0
"""A secret that can't be renewed, since the mesh is cut, serves for this long: consensus outlives a wrong firewall."""

ASK_EVERY_S = 1.0
SILENT_S = 10.0
"""Two that have a secret and don't hear each other for so long agree again: one of them may have another one."""

ANSWER_EVERY_S = 0.1
"""Offers that come faster than this are dropped: each costs an exponentiation."""

_PRIVATE_BYTES = 32
_LABEL = b"p2pfl-node consensus key v1"


class Agreement:
    """This node's side of a pair.

    Attributes:
        agreed_at: when the present secret was agreed; None while there is none.
    """

    def __init__(self, *, cluster: str, me: NodeName, peer: NodeName, random: RandomBytes) -> None:
        self.agreed_at: Monotonic | None = None
        self._info = _info(cluster, *sorted((me, peer)))
        self._offers = me < peer
        self._random = random
        self._offered: X25519PrivateKey | None = None
        self._answer: DatagramKeyAnswer | None = None
        self._heard_at = Monotonic(float("-inf"))
        self._next_ask = Monotonic(float("-inf"))
        self._next_answer = Monotonic(float("-inf"))

    def tick(self, now: Monotonic, *, heard: bool) -> KeyMessage | None:
        """Return what is to be said to the peer now. ``heard``: datagrams of the peer come in."""
        if heard:
            self._heard_at = now
        if self.agreed_at is not None and now >= self.agreed_at + KEPT_AT_MOST_S:
            self.agreed_at = None
        if now < self._next_ask or not self._is_due(now):
            return None
        self._next_ask = Monotonic(now + ASK_EVERY_S)
        return self._offer() if self._offers else DatagramKeyWanted()

    def _is_due(self, now: Monotonic) -> bool:
        if self.agreed_at is None:
            return True
        if now >= max(self.agreed_at, self._heard_at) + SILENT_S:
            return True
        return self._offers and now >= self.agreed_at + RENEWED_EVERY_S

    def is_overdue(self, now: Monotonic) -> bool:
        """Tell whether the secret should have been renewed a minute ago, and was not."""
        return self.agreed_at is not None and now >= self.agreed_at + RENEWED_EVERY_S + 60.0

    def wanted(self, now: Monotonic) -> KeyMessage | None:
        """The peer has no secret: offer one, if that is this node's part."""
        if not self._offers or now < self._next_answer:
            return None
        self._next_answer = Monotonic(now + ANSWER_EVERY_S)
        self._next_ask = Monotonic(now + ASK_EVERY_S)
        return self._offer()

    def offered(self, message: DatagramKeyOffer, now: Monotonic) -> tuple[DatagramKeyAnswer, bytes | None] | None:
        """Return the answer to an offer, and the secret if it is new; None if the offer comes too soon after another.

        Raises:
            RemoteError: it is not the peer's part to offer, or its key is none.
        """
        if self._offers:
            raise RemoteError("agreement: offers a key, which is this node's part")
        if self._answer is not None and self._answer.offered == message.public_key:
            return self._answer, None
        if now < self._next_answer:
            return None
        self._next_answer = Monotonic(now + ANSWER_EVERY_S)
        mine = self._draw()
        public = _public_bytes(mine)
        secret = self._agree(mine, message.public_key, message.public_key + public, now)
        self._answer = DatagramKeyAnswer(message.public_key, public)
        return self._answer, secret

    def answered(self, message: DatagramKeyAnswer, now: Monotonic) -> bytes | None:
        """Return the secret that an answer completes; None if it is not to this node's newest offer.

        Raises:
            RemoteError: its key is none.
        """
        mine = self._offered
        if mine is None or _public_bytes(mine) != message.offered:
            return None
        self._offered = None
        return self._agree(mine, message.public_key, message.offered + message.public_key, now)

    def _offer(self) -> DatagramKeyOffer:
        self._offered = self._draw()
        return DatagramKeyOffer(_public_bytes(self._offered))

    def _draw(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(self._random(_PRIVATE_BYTES))

    def _agree(self, mine: X25519PrivateKey, theirs: bytes, both: bytes, now: Monotonic) -> bytes:
        """Derive the secret from the shared one, bound to who the two are and to both keys."""
        try:
            shared = mine.exchange(X25519PublicKey.from_public_bytes(theirs))
        except ValueError:  # a point of low order: the secret would be everybody's (RFC 7748, section 6.1)
            raise RemoteError("agreement: its key is none") from None
        self.agreed_at = now
        return HKDF(algorithm=SHA256(), length=SECRET_SIZE, salt=None, info=self._info + both).derive(shared)


def _info(*names: str) -> bytes:
    # Lengths keep two different triples of names from ever being the same bytes.
    return _LABEL + b"".join(len(name.encode()).to_bytes(2, "big") + name.encode() for name in names)


def _public_bytes(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
