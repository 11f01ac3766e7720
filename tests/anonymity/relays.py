"""A leader that works with some of the relays: they tell it from whom they got an envelope."""

import random
from collections.abc import Collection

from appliance.delivery.stem import GOES_ON, HandOn, Stem
from appliance.words.ids import NodeName


def theory(relays: int, spies: int) -> float:
    """Return how often the first spy's predecessor, or without one a guess, is the author.

    The first hop meets a spy with probability ``spies / relays``: its predecessor is the author. Any later spy's
    predecessor is each honest node alike, since each hop is chosen evenly among all.
    """
    honest = relays - spies
    first = spies / relays
    ever = first / (1 - GOES_ON * honest / relays)
    return first + (ever - first) / honest + (1 - ever) / honest


def measured(relays: int, spies: int, updates: int, source: random.Random) -> float:
    """Return the share of authors that such a leader names, over stems of the real core."""
    names: list[NodeName] = [f"node{number}" for number in range(relays)]
    hostile, honest = names[:spies], names[spies:]
    stems = {name: Stem(name, source) for name in names}
    right = 0
    for number in range(updates):
        author = source.choice(honest)
        right += _guess(stems, author, hostile, honest, number.to_bytes(4, "big"), source) == author
    return right / updates


def _guess(
    stems: dict[NodeName, Stem],
    author: NodeName,
    hostile: Collection[NodeName],
    honest: list[NodeName],
    envelope_id: bytes,
    source: random.Random,
) -> NodeName:
    holder, step = author, stems[author].begin(stems.keys())
    while isinstance(step, HandOn):
        if step.peer in hostile:
            return holder
        holder = step.peer
        arrived = stems[holder].arrived(envelope_id, stems.keys())
        if arrived is None:
            break
        step = arrived
    return source.choice(honest)
