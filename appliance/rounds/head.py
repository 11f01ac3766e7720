"""The newest committed model at the leader: whether its bytes are here, and whom to ask for them if not."""

from collections.abc import Collection

from appliance.rounds.actions import ObtainModel
from appliance.rounds.retry import Retry
from appliance.words.ids import Digest, Monotonic, NodeName
from appliance.words.models import GlobalModel


class Head:
    """What the next round is on.

    Attributes:
        model: its entry of the lineage; None before the first.
        is_stored: its bytes are durable on this node.
        obtain: when the next peer is asked for them.
    """

    def __init__(self, transfer_s: float) -> None:
        """``transfer_s``: a model may well be on its way for so long."""
        self.model: GlobalModel | None = None
        self.is_stored = False
        # Soon at first, whatever its length: it is another peer that is asked each time, and one may not have it.
        self.obtain = Retry(first_s=1.0, most_s=transfer_s + 10.0)

    @property
    def digest(self) -> Digest | None:
        """The digest of its bytes."""
        return None if self.model is None else self.model.digest

    def begin(self, model: GlobalModel | None, *, is_stored: bool) -> None:
        """A term begins on this model."""
        self.model, self.is_stored = model, is_stored
        self.obtain.reset()

    def committed(self, model: GlobalModel, candidate: Digest | None) -> None:
        """This leader's own proposal is committed; ``candidate``: what it has made durable here for it."""
        self.model = model
        # For a withheld model's base it was not asked to: that is here as before, or not.
        self.is_stored = self.is_stored if model.withheld else candidate == model.digest

    def stored(self, digest: Digest) -> None:
        """A model's bytes are durable on this node."""
        self.is_stored |= digest == self.digest

    def dropped(self, digests: Collection[Digest]) -> None:
        """Models are no longer on this node's disk."""
        if self.digest in digests:
            self.is_stored = False
            self.obtain.reset()

    def missing_from(self, peers: Collection[NodeName], now: Monotonic) -> ObtainModel | None:
        """Ask one live peer after another, if it is time to ask."""
        if self.model is None or self.is_stored or not peers or not self.obtain.due(now):
            return None
        asked = sorted(peers)[self.obtain.tries % len(peers)]
        self.obtain.schedule(now)
        return ObtainModel(self.model.digest, asked)
