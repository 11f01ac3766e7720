"""Which peers are up: those from which anything authentic came lately. Pure."""

from collections.abc import Collection

from appliance.words.ids import Monotonic, NodeName

PING_AFTER = 0.5
"""Seconds without a word to a peer, after which a ping goes to it."""

UP_FOR = 2.0
"""Seconds that a peer counts as up after its last word: three pings may be lost."""


class Liveness:
    """When each peer was last heard, and last told anything."""

    def __init__(self, peers: Collection[NodeName], now: Monotonic) -> None:
        self._heard: dict[NodeName, Monotonic] = {}
        self._told = {peer: Monotonic(now - PING_AFTER) for peer in sorted(peers)}

    def set_peers(self, peers: Collection[NodeName], now: Monotonic) -> None:
        """Watch these peers from now on."""
        self._heard = {peer: heard for peer, heard in self._heard.items() if peer in peers}
        self._told = {peer: self._told.get(peer, Monotonic(now - PING_AFTER)) for peer in sorted(peers)}

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
        return frozenset(peer for peer, heard in self._heard.items() if now - heard <= UP_FOR)

    def to_ping(self, now: Monotonic) -> list[NodeName]:
        """Return the peers to which a ping is due."""
        return [peer for peer, told in self._told.items() if now >= told + PING_AFTER]

    @property
    def next_ping(self) -> Monotonic:
        """When the next ping is due; never without peers."""
        return Monotonic(min(self._told.values(), default=Monotonic(float("inf"))) + PING_AFTER)
