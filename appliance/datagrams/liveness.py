"""Which peers are up: those from which anything authentic came lately. Pure."""

from collections.abc import Collection

from appliance.words.ids import Monotonic, NodeName

PING_AFTER = 0.5, 2.0
"""Seconds without a word to a peer, after which a ping goes to it: with few peers, and at most."""

PINGS_PER_S = 20
"""What a node sends at most to 40 peers or fewer: all to all, a cluster's pings grow with the square of its nodes."""

PAUSES_UP = 4
"""A peer counts as up for so many pauses between pings after its last word: three pings may be lost."""


class Liveness:
    """When each peer was last heard, and last told anything."""

    def __init__(self, peers: Collection[NodeName], now: Monotonic) -> None:
        self._heard: dict[NodeName, Monotonic] = {}
        self._told: dict[NodeName, Monotonic] = {}
        self.set_peers(peers, now)

    def set_peers(self, peers: Collection[NodeName], now: Monotonic) -> None:
        """Watch these peers from now on."""
        least, most = PING_AFTER
        self._pause = max(least, min(len(peers) / PINGS_PER_S, most))
        self._heard = {peer: heard for peer, heard in self._heard.items() if peer in peers}
        self._told = {peer: self._told.get(peer, Monotonic(now - self._pause)) for peer in sorted(peers)}

    def heard(self, peer: NodeName, now: Monotonic) -> None:
        if peer in self._told:
            self._heard[peer] = now

    def doubt(self, peer: NodeName, silent_s: float, now: Monotonic) -> None:
        """Take a peer for down, until it is heard again, if there was no word of it for ``silent_s`` seconds."""
        if now - self._heard.get(peer, now) >= silent_s:
            del self._heard[peer]

    def told(self, peer: NodeName, now: Monotonic) -> None:
        if peer in self._told:
            self._told[peer] = now

    def live(self, now: Monotonic) -> frozenset[NodeName]:
        """Return the peers that are up."""
        up_for_s = PAUSES_UP * self._pause
        return frozenset(peer for peer, heard in self._heard.items() if now - heard <= up_for_s)

    def to_ping(self, now: Monotonic) -> list[NodeName]:
        """Return the peers to which a ping is due."""
        return [peer for peer, told in self._told.items() if now >= told + self._pause]

    @property
    def next_ping(self) -> Monotonic:
        """When the next ping is due; never without peers."""
        return Monotonic(min(self._told.values(), default=Monotonic(float("inf"))) + self._pause)
