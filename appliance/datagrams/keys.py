"""The secrets of this node's consensus datagrams with each peer: agreed over the mesh, renewed, and dropped."""

import logging
from collections.abc import Callable, Collection

from appliance.datagrams.agreement import Agreement, KeyMessage
from appliance.words.ids import Monotonic, NodeName
from appliance.words.messages import DatagramKeyAnswer, DatagramKeyOffer, DatagramKeyWanted
from appliance.words.random import RandomBytes

_log = logging.getLogger(__name__)

Send = Callable[[NodeName, KeyMessage], None]
Install = Callable[[NodeName, bytes | None], None]


class AgreedKeys:
    """One agreement for each peer. Its methods run on the event loop.

    Args:
        send: gives a message to the mesh, for one peer.
        install: takes a peer's new secret for its datagrams; None: there is none any more.
    """

    def __init__(self, *, cluster: str, me: NodeName, random: RandomBytes, send: Send, install: Install) -> None:
        self._cluster = cluster
        self._me = me
        self._random = random
        self._send = send
        self._install = install
        self._agreements: dict[NodeName, Agreement] = {}
        self._overdue: set[NodeName] = set()

    def set_peers(self, peers: Collection[NodeName]) -> None:
        """Agree with these from now on, and have nothing in common with anybody else: removed, or revoked."""
        for gone in self._agreements.keys() - set(peers):
            del self._agreements[gone]
            self._install(gone, None)
        for peer in peers:
            if peer not in self._agreements:
                self._agreements[peer] = Agreement(cluster=self._cluster, me=self._me, peer=peer, random=self._random)

    def forget(self, peer: NodeName) -> None:
        """Have no secret with a peer any more, until it agrees on one anew: its certificate is revoked."""
        if self._agreements.pop(peer, None) is not None:
            self._install(peer, None)

    def tick(self, live: Collection[NodeName], now: Monotonic) -> None:
        """Time has passed: ask for what is missing, renew what is old, drop what is too old. ``live``: who is heard."""
        for peer, agreement in self._agreements.items():
            had = agreement.agreed_at is not None
            message = agreement.tick(now, heard=peer in live)
            if had and agreement.agreed_at is None:
                self._install(peer, None)
            if message is not None:
                self._send(peer, message)
            self._complain(peer, overdue=agreement.is_overdue(now))

    def on_message(self, peer: NodeName, message: KeyMessage, now: Monotonic) -> None:
        """A peer's part of an agreement came over the mesh.

        Raises:
            RemoteError: it breaks the protocol.
        """
        agreement = self._agreements.get(peer)
        if agreement is None:
            return
        match message:
            case DatagramKeyWanted():
                if (offer := agreement.wanted(now)) is not None:
                    self._send(peer, offer)
            case DatagramKeyOffer():
                if (answered := agreement.offered(message, now)) is not None:
                    answer, secret = answered
                    # First this node's side, then the answer: what the peer sends next can be opened here.
                    if secret is not None:
                        self._install(peer, secret)
                    self._send(peer, answer)
            case DatagramKeyAnswer():
                if (agreed := agreement.answered(message, now)) is not None:
                    self._install(peer, agreed)

    def _complain(self, peer: NodeName, *, overdue: bool) -> None:
        if overdue and peer not in self._overdue:
            text = "the key of consensus datagrams with %s can't be renewed: the mesh does not reach it"
            _log.warning(text, peer, extra={"peer": peer})
            self._overdue.add(peer)
        elif not overdue:
            self._overdue.discard(peer)
