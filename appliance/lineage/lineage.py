"""The lineage: which global models were committed, in which order."""

from collections.abc import Iterable, Sequence

from appliance.words.ids import Round, Version
from appliance.words.models import GlobalModel

KEPT = 10_000
"""Newest models that are remembered: a week of one a minute. So memory and snapshots stay bounded for years."""


class Lineage:
    """The newest committed global models, oldest first; it only grows at its end (design.md, invariant 2).

    Every node applies the same consensus entries in the same order. Whether an entry extends the lineage depends on
    nothing but the entries before it, so all nodes take and drop the same ones: two leaders that both proposed a model
    for one round can't fork it.
    """

    def __init__(self, models: Iterable[GlobalModel] = ()) -> None:
        """Begin with what another lineage held."""
        self._models = list(models)

    @property
    def models(self) -> Sequence[GlobalModel]:
        """The newest ``KEPT`` committed models, oldest first."""
        return self._models

    @property
    def head(self) -> GlobalModel | None:
        """The newest committed model; None before the first."""
        return self._models[-1] if self._models else None

    @property
    def next_round(self) -> Round:
        """The round to come: 0 makes the initial model."""
        return 0 if self.head is None else self.head.round + 1

    @property
    def next_version(self) -> Version:
        """The version to come."""
        return 0 if self.head is None else self.head.version + 1

    def apply(self, model: GlobalModel) -> bool:
        """Append a committed model if it follows the head; tell whether it did.

        A model that doesn't follow comes from a leader that was replaced while its proposal was on the way.
        """
        base = None if self.head is None else self.head.digest
        if (model.version, model.round, model.base) != (self.next_version, self.next_round, base):
            return False
        self._models.append(model)
        del self._models[:-KEPT]
        return True
