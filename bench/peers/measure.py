"""One run of a contender, measured; and one in which its aggregator is killed."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from appliance.words.errors import OperatorError
from bench import alone
from bench.peers.contender import Contender, Job, Model, Team

POLL_S = 0.2
BEGINS_WITHIN_S = 600.0
ROUND_WITHIN_S = 300.0
KILLED_IN_ROUND = 3


@dataclass(frozen=True, slots=True)
class Samples:
    """What one run gave.

    Attributes:
        models: in the order in which they were made.
        started_s: from the start of the processes to the first round.
        memory: the most that all processes held at once, from the first round on.
        bytes_a_round: on the loopback; 0 for who uses none.
        load: the machine's, before and after.
    """

    models: tuple[Model, ...]
    started_s: float
    memory: alone.Usage
    bytes_a_round: float
    load: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What happened when the aggregator was killed.

    Attributes:
        killed: what it was.
        next_model_s: from the kill to the next global model; None if none came.
        waited_s: for it.
        left: what still ran then.
        revived: how it was started again; empty if it was not.
        then: the round of the first trained model after that; None if none came.
    """

    killed: str
    next_model_s: float | None
    waited_s: float
    left: str
    revived: str = ""
    then: int | None = None


@dataclass
class _Counted:
    """The loopback's counter when each model was first seen."""

    bytes_at: list[int] = field(default_factory=list)

    def see(self, models: Sequence[Model]) -> None:
        self.bytes_at += [alone.loopback_bytes()] * (len(models) - len(self.bytes_at))

    def a_round(self) -> float:
        """Leave out the first round, which may carry what only a beginning needs."""
        return (self.bytes_at[-1] - self.bytes_at[1]) / (len(self.bytes_at) - 2)


def measure(contender: Contender, job: Job) -> Samples:
    """Run the job's rounds. Raises OperatorError if they don't come."""
    before, began, counted = alone.load(), time.monotonic(), _Counted()
    with contender.running(job) as team:
        _wait_for(team, 1, BEGINS_WITHIN_S, counted.see)
        started = time.monotonic() - began
        with alone.MemoryWatch() as memory:
            for number in range(1, job.rounds + 1):
                models = _wait_for(team, number + 1, ROUND_WITHIN_S, counted.see)
                _say(f"{contender.key}: round {number} of {job.rounds}, {models[number].accuracy or 0:.2%}")
    return Samples(tuple(models[: job.rounds + 1]), started, memory.peak, counted.a_round(), (before, alone.load()))


def kill(contender: Contender, job: Job) -> Recovery:
    """Kill the aggregator in the middle of a round, and see. The job must have more rounds than are needed."""
    with contender.running(job) as team:
        _wait_for(team, 1, BEGINS_WITHIN_S)
        models = _wait_for(team, KILLED_IN_ROUND, ROUND_WITHIN_S * KILLED_IN_ROUND)
        time.sleep((models[-1].at - models[-2].at) / 2)
        known, killed_at = len(team.models()), time.monotonic()
        killed = team.kill_aggregator()
        _say(f"{contender.key}: killed {killed} in round {known}")
        model = _next_model(team, known, contender.patience_s)
        waited, left = time.monotonic() - killed_at, team.left()
        if model is not None:
            return Recovery(killed, model.at - killed_at, waited, left)
        revived = team.revive()
        then = _next_model(team, known, contender.patience_s) if revived else None
        return Recovery(killed, None, waited, left, revived, then.round if then else None)


def _wait_for(
    team: Team, count: int, within_s: float, see: Callable[[Sequence[Model]], None] = lambda _: None
) -> Sequence[Model]:
    """Wait until there are so many models; raise OperatorError if that can't be or takes too long."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        models = team.models()
        see(models)
        if len(models) >= count:
            return models
        if trouble := team.trouble():
            raise OperatorError(trouble)
        time.sleep(POLL_S)
    raise OperatorError(f"model {count - 1} did not come within {within_s:.0f} s")


def _next_model(team: Team, known: int, within_s: float) -> Model | None:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        # What a server that starts again begins with, round 0, is no progress.
        if trained := [model for model in team.models()[known:] if model.round > 0]:
            return trained[0]
        time.sleep(POLL_S)
    return None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
