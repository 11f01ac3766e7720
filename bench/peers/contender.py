"""What every contender of the comparison can do, and what is known of its runs."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PARTICIPANTS = 5
BATCH_SIZE = 64
LEARNING_RATE = 1e-3


@dataclass(frozen=True, slots=True)
class Model:
    """A global model as a run made it.

    Attributes:
        round: that made it; 0 is what the first round begins with.
        at: when it was there, in seconds of the machine's monotonic clock.
        accuracy: on the held-out images, 0 to 1; None for a model that nobody judged.
    """

    round: int
    at: float
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Attributes:
        data: the folder with MNIST.
        shards: the folder with the same data as ``foreign.task`` reads it.
        folder: empty, for whatever the run writes.
        rounds: that it is to run; it may run more.
    """

    data: Path
    shards: Path
    folder: Path
    rounds: int


class Team(Protocol):
    """The processes of one run."""

    def models(self) -> Sequence[Model]:
        """Return the global models so far, in the order in which they were made."""

    def trouble(self) -> str:
        """Return why this run can't go on, with the end of a log; empty if it can."""

    def kill_aggregator(self) -> str:
        """Kill with -9 what aggregates; return in a few words what it was."""

    def left(self) -> str:
        """Return in a few words what still runs after that."""

    def revive(self) -> str:
        """Start again what was killed, as an operator would; return how, or nothing where nobody needs to."""


class Contender(Protocol):
    """One of those who are compared.

    Attributes:
        key: its name on the command line and in JSON.
        title: its name in the table.
        can_be_killed: it has something that aggregates.
        patience_s: how long to wait for its next model after the kill.
    """

    key: str
    title: str
    can_be_killed: bool
    patience_s: float

    def prepare(self) -> None:
        """Make what it needs of the network: outside of the namespaces. Raises OperatorError if that can't be."""

    def running(self, job: Job) -> AbstractContextManager[Team]:
        """Start a run; whatever of it still runs when the context ends is killed."""
