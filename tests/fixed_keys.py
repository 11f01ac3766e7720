"""Consensus without a mesh: every pair of nodes has one secret, which is known beforehand instead of agreed on."""

from collections.abc import Callable, Iterable

from appliance.words.ids import NodeName

SECRET = bytes(range(32))


class FixedKeys:
    """Gives a driver the secret for each peer once. Restarts need no more: an association is fresh at each start."""

    def __init__(
        self, me: NodeName, set_secret: Callable[[NodeName, bytes | None], None], secret: bytes = SECRET
    ) -> None:
        self._me = me
        self._set_secret = set_secret
        self._secret = secret
        self._known: set[NodeName] = set()

    def on_members(self, members: Iterable[NodeName]) -> None:
        """These are the nodes of the cluster now."""
        names = set(members) - {self._me}
        for peer in sorted(names - self._known):
            self._set_secret(peer, self._secret)
        self._known = names
