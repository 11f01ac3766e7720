"""Which messages came already: ids, in bounded memory that no peer can flush for the others."""

from appliance.words.ids import NodeName


class Seen:
    """Remembers the newest ids that each peer delivered, ``capacity`` over all peers.

    When it is full, whoever holds most forgets its oldest: a peer that floods it with ids soon holds most, and from
    then on flushes only its own. An id that several peers delivered is kept for each, so that none of them can have it
    forgotten for the others.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._of_peer: dict[NodeName, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return self._size

    def first(self, peer: NodeName, identifier: bytes) -> bool:
        """Tell whether no peer delivered this id before, as far as is remembered; and remember it."""
        is_first = not any(identifier in held for held in self._of_peer.values())
        held = self._of_peer.setdefault(peer, {})
        if identifier not in held:
            held[identifier] = None
            self._size += 1
            if self._size > self._capacity:
                self._forget_one()
        return is_first

    def _forget_one(self) -> None:
        greatest = max(self._of_peer, key=lambda peer: len(self._of_peer[peer]))
        held = self._of_peer[greatest]
        del held[next(iter(held))]
        self._size -= 1
        if not held:
            del self._of_peer[greatest]
