"""The leader guesses no better than the stem's theory allows; without stem or window, it does."""

import random

import pytest

from tests.anonymity.leader import CuriousLeader
from tests.anonymity.observe import Setting, even, observe, uneven
from tests.anonymity.relays import measured, theory

KNOWN, UPDATES = 1000, 2000
MARGIN = 0.10
"""What the issue of this work asks for, in shares of one."""


def success(setting: Setting, **sees: bool) -> float:
    """Return the leader's share of right guesses over ``UPDATES`` updates."""
    seen = observe(setting, KNOWN + UPDATES, seed=7)
    return CuriousLeader(seen[:KNOWN], **sees).success(seen[KNOWN:])


@pytest.mark.parametrize("nodes", [5, 10])
@pytest.mark.parametrize("broadcasts", [False, True], ids=["relay", "broadcast"])
def test_with_stem_and_window_it_guesses_as_by_chance(nodes: int, broadcasts: bool) -> None:
    chance = 1 / (nodes - 1)
    assert success(Setting(nodes, stems=True, broadcasts=broadcasts, window_s=0.6, training_s=uneven)) < chance + MARGIN


def test_on_a_straight_way_it_knows_every_author() -> None:
    """The check can fail: what it sees of updates without a stem is enough."""
    assert success(Setting(5, stems=False, broadcasts=False, window_s=0.6, training_s=even)) == 1.0


def test_without_the_window_times_tell_who_is_slow() -> None:
    """A stem alone hides nothing from a leader that knows how fast each machine trains."""
    assert success(Setting(5, stems=True, broadcasts=False, window_s=0.0, training_s=uneven)) > 0.9


def test_where_all_machines_are_alike_the_stem_is_enough() -> None:
    assert success(Setting(5, stems=True, broadcasts=False, window_s=0.0, training_s=even)) < 1 / 4 + MARGIN


@pytest.mark.parametrize(("relays", "spies"), [(4, 1), (4, 2), (9, 1), (9, 3)])
def test_with_spies_among_the_relays_it_guesses_as_theory_says(relays: int, spies: int) -> None:
    updates = 20_000
    expected = theory(relays, spies)
    # Four standard deviations.
    assert measured(relays, spies, updates, random.Random(3)) == pytest.approx(
        expected, abs=4 * (expected * (1 - expected) / updates) ** 0.5
    )
