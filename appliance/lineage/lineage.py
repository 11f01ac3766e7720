"""The lineage: which global models were committed, in which order."""

from collections.abc import Iterable, Sequence
from itertools import islice

from appliance.words.ids import Digest, Round, Version
from appliance.words.models import GlobalModel
from appliance.words.settings import Models

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

    def at(self, version: Version) -> GlobalModel | None:
        """Return the entry of a version; None if it is not remembered, or to come."""
        place = version - self._models[0].version if self._models else -1
        return self._models[place] if 0 <= place < len(self._models) else None

    def kept(self, rule: Models) -> frozenset[Digest]:
        """Return whose bytes a node keeps: the newest that differ, and of those before them every n-th version's."""
        newest = frozenset(islice(dict.fromkeys(model.digest for model in reversed(self._models)), rule.keep))
        every = (
            model.digest
            for model in reversed(self._models)
            if rule.keep_every and model.version % rule.keep_every == 0 and model.digest not in newest
        )
        return newest.union(islice(dict.fromkeys(every), rule.keep_old))

    def apply(self, model: GlobalModel) -> bool:
        """Append a committed model if it follows the head; tell whether it did.

        A model that doesn't follow comes from a leader that was replaced while its proposal was on the way.
        """
        base = None if self.head is None else self.head.digest
        if (model.version, model.round, model.base) != (self.next_version, self.next_round, base):
            return False
        if not self._is_what_it_says(model):
            return False
        self._models.append(model)
        del self._models[:-KEPT]
        return True

    def _is_what_it_says(self, model: GlobalModel) -> bool:
        """A rollback has the bytes of the version that it names, and what stands for a withheld model its base's."""
        if model.rolled_back_to is not None:
            target = self.at(model.rolled_back_to)
            return not model.withheld and target is not None and target.digest == model.digest
        return not model.withheld or model.digest == model.base
