"""Two nodes and the secrets that they agreed on: the present one, and for a while the one before it. Pure."""

from appliance.datagrams.association import Association
from appliance.datagrams.sealing import Header, Refusal, RefusedError
from appliance.words.ids import Monotonic, NodeName
from appliance.words.random import RandomBytes

FORMER_KEPT_S = 10.0
"""The former secret still opens what comes, and seals until the two have met anew: a renewal is no pause."""


class Pair:
    """This node's side of a pair."""

    def __init__(self, *, cluster: str, me: NodeName, peer: NodeName, random: RandomBytes) -> None:
        self._cluster = cluster
        self._me = me
        self._peer = peer
        self._random = random
        self._present: Association | None = None
        self._former: Association | None = None
        self._since = Monotonic(0.0)

    def set_secret(self, secret: bytes | None, now: Monotonic) -> None:
        """Begin anew under a secret; None: there is none any more."""
        self._former, self._present, self._since = self._present, None, now
        if secret is None:
            self._former = None
            return
        self._present = Association(
            cluster=self._cluster, me=self._me, peer=self._peer, secret=secret, random=self._random
        )
        self._present.greet(now)

    def seal(self, content: bytes, now: Monotonic) -> bytes | None:
        """Return a datagram for the peer; None while there is no secret, or the two have not met."""
        self._drop_former(now)
        present, former = self._present, self._former
        if present is None:
            return None
        if former is not None and former.has_met and not present.has_met:
            present.greet(now)
            return former.seal(content, now)
        return present.seal(content, now)

    def open(self, header: Header, ciphertext: bytes, now: Monotonic) -> bytes | None:
        """Return the content of a datagram of the peer; None if it was for the association itself.

        Raises:
            RefusedError: it is not authentic, not fresh, or came before. Such changes nothing.
        """
        self._drop_former(now)
        if self._present is None:
            raise RefusedError(Refusal.NO_KEY, self._peer)
        try:
            return self._present.open(header, ciphertext, now)
        except RefusedError as refused:
            if refused.refusal is not Refusal.WRONG_KEY:
                raise
            if self._former is not None:
                return self._former.open(header, ciphertext, now)
            if now < self._since + FORMER_KEPT_S:  # it was on its way when this node, or the peer, began anew
                raise RefusedError(Refusal.NO_KEY, self._peer) from None
            raise

    def outbox(self) -> list[bytes]:
        """Take what the associations have to say for themselves."""
        datagrams: list[bytes] = []
        for association in (self._former, self._present):
            if association is not None:
                datagrams += association.outbox
                association.outbox = []
        return datagrams

    def _drop_former(self, now: Monotonic) -> None:
        if now >= self._since + FORMER_KEPT_S:
            self._former = None
