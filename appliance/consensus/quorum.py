"""Majorities: of votes and of copies."""

import enum
from collections.abc import Collection, Sequence
from typing import TypeVar

from appliance.words.ids import NodeName

Number = TypeVar("Number", int, float)


class Outcome(enum.Enum):
    """How an election stands."""

    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority(members: int) -> int:
    """Return how many of ``members`` are a majority: two majorities always share a node (paper, 5.2)."""
    return members // 2 + 1


class Tally:
    """The votes of one election: a set of senders, so that a duplicated datagram counts once."""

    def __init__(self, voters: Collection[NodeName]) -> None:
        self._voters = frozenset(voters)
        self._granted: set[NodeName] = set()
        self._refused: set[NodeName] = set()

    def record(self, voter: NodeName, granted: bool) -> None:
        """Note one answer; a vote once given stands, and who has no vote is not counted."""
        if voter in self._voters and voter not in self._granted:
            (self._granted if granted else self._refused).add(voter)
            self._refused -= self._granted

    @property
    def missing(self) -> frozenset[NodeName]:
        """The voters that gave no vote. Who refused a trial may grant it later, when it hears no leader either."""
        return self._voters - self._granted

    @property
    def outcome(self) -> Outcome:
        """Won by a majority of all voters; lost once too few are left to reach it."""
        needed = majority(len(self._voters))
        if len(self._granted) >= needed:
            return Outcome.WON
        return Outcome.LOST if len(self._voters) - len(self._refused) < needed else Outcome.PENDING


def reached_by_majority(values: Sequence[Number]) -> Number:
    """Return the largest value that a majority of ``values`` has reached."""
    return sorted(values, reverse=True)[majority(len(values)) - 1]
