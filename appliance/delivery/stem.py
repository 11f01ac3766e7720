"""The way of an envelope along a few peers, before one of them delivers it. Pure.

The leader sees who delivers an envelope: on a direct way, its author. So an envelope first goes along a *stem* of
random peers (Reiter and Rubin, "Crowds: Anonymity for Web Transactions", 1998, section 3; the word is from Bojja
Venkatakrishnan et al., "Dandelion", 2017). It differs from Crowds in one point: each hop is chosen among all relays
*with the chooser itself*, the first hop too. So the node at any position, and the one that delivers, is each relay with
the same probability, wherever the envelope began: to a leader that works with no relay, who delivers says nothing at
all. Without the chooser among them, the one that delivers would be the author less often than any other node, and that
is knowledge too.

After a hop the way goes on with probability ``GOES_ON``. No hop is counted: a count would tell a relay how near the
author is. A relay that spies for the leader learns more than the leader alone: docs/security.md has the figures.
"""

from collections import Counter, OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from random import Random

from appliance.words.ids import NodeName

GOES_ON = 0.5
"""The probability of another hop. A stem has two hops on average; among N relays they are 2 - 2/N sends."""

VISITS = 4
"""How often one envelope may pass a node. A random way comes back now and then; one that comes back for ever is a
hostile member's repetition, which is to cost the others nothing."""

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class HandOn:
    """Hand the envelope on to this peer."""

    peer: NodeName


@dataclass(frozen=True, slots=True)
class HandIn:
    """The stem ends here: deliver the envelope to the leader."""


Step = HandOn | HandIn


class Stem:
    """This node's part in the stems of all envelopes.

    Args:
        node: this node's name.
        random: unpredictable for others; ``random.SystemRandom`` in a real node.
    """

    def __init__(self, node: NodeName, random: Random) -> None:
        self._node = node
        self._random = random
        self._visits: Counter[bytes] = Counter()
        self._order: OrderedDict[bytes, None] = OrderedDict()

    def begin(self, relays: Collection[NodeName]) -> Step:
        """Return the first step of an envelope of this node's own.

        Args:
            relays: the members that can be reached, this node among them, and not the leader: it would see who hands
                the envelope to it before anybody has hidden that.
        """
        return self._hop(relays)

    def arrived(self, envelope_id: bytes, relays: Collection[NodeName]) -> Step | None:
        """Return the next step of an envelope that a peer handed on; None if it has been here too often."""
        self._visits[envelope_id] += 1
        self._order[envelope_id] = None
        self._order.move_to_end(envelope_id)
        if len(self._order) > _REMEMBERED:
            oldest, _ = self._order.popitem(last=False)
            del self._visits[oldest]
        if self._visits[envelope_id] > VISITS:
            return None
        return self._hop(relays) if self._random.random() < GOES_ON else HandIn()

    def _hop(self, relays: Collection[NodeName]) -> Step:
        choices = sorted({*relays, self._node})
        while True:
            chosen = self._random.choice(choices)
            if chosen != self._node:
                return HandOn(chosen)
            if self._random.random() >= GOES_ON:
                return HandIn()
