"""The one training of a participant: which it is, whether it was told to end, and whether the next may begin."""

from dataclasses import dataclass

from appliance.rounds.actions import PauseTraining, StopTraining, Train
from appliance.rounds.retry import Retry
from appliance.words.ids import Digest, Monotonic, Round
from appliance.words.messages import Opening

FAILURE_RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class Closed:
    """It is outside the training hours: no training may be under way.

    Attributes:
        opens: when they begin next, in words for people, such as "22:00" or "Sat 00:00".
        until: the same on the monotonic clock.
    """

    opens: str
    until: Monotonic


class TrainingUnderWay:
    """What a participant trains. Pure; whoever feeds it carries out what it returns."""

    def __init__(self) -> None:
        """Nothing is trained, and anything may be."""
        self.what: tuple[Round, Digest] | None = None
        """The round and the base of the training under way."""
        self.closed: Closed | None = None
        """Why nothing may be trained now; None: it is within the training hours."""
        self.retry = Retry(first_s=FAILURE_RETRY_S, most_s=60.0)
        """When a training that failed is tried again."""
        self._told: StopTraining | PauseTraining | None = None

    def begin(self, round_: Round, base: Digest) -> Train:
        """Return the order to train."""
        self.what, self._told = (round_, base), None
        return Train(round_, base)

    def end(self) -> None:
        """The training under way is finished, failed or stopped."""
        self.what = None

    def ending(
        self, opening: Opening | None, committed: Round, *, excluded: bool
    ) -> StopTraining | PauseTraining | None:
        """Return the order to end the training under way, once, if it can't count any more or the hours are over.

        It can't count once its round is committed, or another one is open, or this node takes part in none.
        """
        if self.what is None:
            return None
        order: StopTraining | PauseTraining | None = None
        if (
            excluded
            or self.what[0] <= committed
            or (opening is not None and self.what != (opening.round, opening.base))
        ):
            order = StopTraining()
        elif self.closed is not None:
            order = PauseTraining()
        # One that was told to pause may yet be told to stop; one that was told to stop is not asked for more.
        if order is None or order == self._told or isinstance(self._told, StopTraining):
            return None
        self._told = order
        return order
