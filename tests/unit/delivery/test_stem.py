"""Stems: who delivers says nothing about where an envelope began."""

import random
from collections import Counter

import pytest

from appliance.delivery.stem import VISITS, HandIn, HandOn, Stem

RELAYS = frozenset({"node1", "node2", "node3", "node4"})


def walk(origin: str, seed: int, relays: frozenset[str] = RELAYS) -> list[str]:
    """Return the nodes of one envelope's way, its author first and the one that delivers last."""
    source = random.Random(seed)
    stems = {name: Stem(name, source) for name in relays | {origin}}
    way = [origin]
    step = stems[origin].begin(relays)
    while isinstance(step, HandOn):
        assert step.peer != way[-1], "an envelope is never sent to its sender"
        way.append(step.peer)
        arrived = stems[step.peer].arrived(b"id", relays)
        assert arrived is not None or way.count(step.peer) > VISITS
        if arrived is None:
            break
        step = arrived
    return way


def test_each_relay_delivers_as_often_as_any_other_wherever_it_began() -> None:
    count = 4000
    for origin in ("node1", "node3"):
        delivered = Counter(walk(origin, seed)[-1] for seed in range(count))
        assert delivered.keys() == RELAYS
        # 4 standard deviations of a binomial with p = 1/4.
        assert all(abs(times - count / 4) < 4 * (count * 0.25 * 0.75) ** 0.5 for times in delivered.values())


def test_a_stem_costs_two_hops_of_which_some_stay_where_they_are() -> None:
    count = 4000
    sends = sum(len(walk("node1", seed)) - 1 for seed in range(count))
    assert sends / count == pytest.approx(2 - 2 / len(RELAYS), rel=0.05)


def test_a_node_that_is_alone_with_the_leader_delivers_itself() -> None:
    assert Stem("node1", random.Random(1)).begin({"node1"}) == HandIn()


def test_an_author_that_is_no_relay_is_one_all_the_same() -> None:
    # A member whose vote is not committed yet: it may deliver its own, as the others may deliver theirs.
    delivered = Counter(walk("node9", seed)[-1] for seed in range(1000))
    assert delivered.keys() >= RELAYS


def test_what_is_repeated_again_and_again_goes_nowhere() -> None:
    stem = Stem("node1", random.Random(1))
    steps = [stem.arrived(b"same", RELAYS) for _ in range(VISITS + 3)]
    assert None not in steps[:VISITS]
    assert steps[VISITS:] == [None] * 3
    assert stem.arrived(b"another", RELAYS) is not None


def test_memory_is_bounded() -> None:
    stem = Stem("node1", random.Random(1))
    for number in range(10_000):
        stem.arrived(number.to_bytes(4, "big"), RELAYS)
    assert len(stem._visits) == len(stem._order) == 4096
