"""The curious leader: learns from rounds whose truth it is told, then guesses.

It is as strong as its knowledge lets it be: it has seen thousands of updates of each member with their author's name
(which no real leader has), takes deliverer and time for independent given the author, and guesses all updates of a
round at once, since each member has one. Sizes are no use to it: all updates have one length.
"""

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby

from appliance.words.ids import NodeName
from tests.simulation.nodes.world import Delivered

SLOTS = 40
"""Classes of equal frequency into which it sorts times."""

_WORST: tuple[float, tuple[NodeName, ...]] = (-math.inf, ())


class CuriousLeader:
    """Learns ``P(deliverer | author)`` and ``P(time | author)`` by counting.

    Args:
        sees_deliverers, sees_times: what it may use.
    """

    def __init__(self, known: Sequence[Delivered], *, sees_deliverers: bool = True, sees_times: bool = True) -> None:
        self._sees_deliverers = sees_deliverers
        self._sees_times = sees_times
        times = sorted(delivered.since_s for delivered in known)
        self._edges = [times[len(times) * slot // SLOTS] for slot in range(1, SLOTS)]
        self._deliverers = _Learnt((seen.author, seen.deliverer) for seen in known)
        self._slots = _Learnt((seen.author, self._slot(seen)) for seen in known)

    def success(self, updates: Sequence[Delivered]) -> float:
        """Return the share of updates whose author it names."""
        right = 0
        ordered = sorted(updates, key=lambda delivered: (delivered.round, delivered.leader, delivered.since_s))
        for _, same in groupby(ordered, key=lambda delivered: (delivered.round, delivered.leader)):
            together = list(same)
            # In an order that has nothing to do with the envelopes', or a guess by default would be a good one.
            authors = sorted({delivered.author for delivered in together}, key=lambda name: hash((name, ordered[0])))
            guesses = self._assign(together, authors)
            right += sum(guess == delivered.author for guess, delivered in zip(guesses, together, strict=True))
        return right / len(updates)

    def _assign(self, together: list[Delivered], authors: list[NodeName]) -> tuple[NodeName, ...]:
        """Return the likeliest one-to-one assignment of authors to a round's updates (dynamic, over subsets)."""
        best: dict[int, tuple[float, tuple[NodeName, ...]]] = {0: (0.0, ())}
        for delivered in together:
            following: dict[int, tuple[float, tuple[NodeName, ...]]] = {}
            scores = [(1 << number, author, self._score(delivered, author)) for number, author in enumerate(authors)]
            for taken, (score, guesses) in best.items():
                for bit, author, gain in scores:
                    if not taken & bit and score + gain > following.get(taken | bit, _WORST)[0]:
                        following[taken | bit] = (score + gain, (*guesses, author))
            best = following
        return next(iter(best.values()))[1]

    def _score(self, delivered: Delivered, author: NodeName) -> float:
        score = 0.0
        if self._sees_deliverers:
            score += self._deliverers.log_share(author, delivered.deliverer)
        if self._sees_times:
            score += self._slots.log_share(author, self._slot(delivered))
        return score

    def _slot(self, delivered: Delivered) -> int:
        return bisect_right(self._edges, delivered.since_s)


class _Learnt:
    """How often each value was seen of each author."""

    def __init__(self, seen: Iterable[tuple[NodeName, object]]) -> None:
        self._counts: dict[NodeName, Counter[object]] = defaultdict(Counter)
        for author, value in seen:
            self._counts[author][value] += 1
        self._totals = {author: counts.total() for author, counts in self._counts.items()}

    def log_share(self, author: NodeName, value: object) -> float:
        """Return the logarithm of a value's share, never minus infinity: what was not seen yet may still come."""
        counts = self._counts[author]
        return math.log((counts[value] + 0.5) / (self._totals.get(author, 0) + 0.5 * max(1, len(counts))))
