"""Linearizable reads without a write: ReadIndex (thesis, 6.4)."""

from dataclasses import dataclass

from appliance.consensus.messages import Index


@dataclass(frozen=True, slots=True)
class Read:
    """The answer to ``Raft.read``.

    Attributes:
        number: of the question.
        index: whoever has applied all up to here may answer; None if this node can't say, since it leads no more.
    """

    number: int
    index: Index | None


class Reads:
    """A leader's open questions: each waits until a majority has answered a heartbeat that was sent after it."""

    def __init__(self) -> None:
        self.beat: Index = 0
        """Number of the last heartbeat."""
        self._asked: list[Read] = []
        self._sent: list[tuple[Index, Read]] = []

    def ask(self, number: int, commit: Index) -> None:
        """Note a question; what is committed now is what it must see."""
        self._asked.append(Read(number, commit))

    @property
    def wanted(self) -> bool:
        """Whether a question waits for a heartbeat to be sent."""
        return bool(self._asked)

    def send(self) -> None:
        """A heartbeat goes out: all questions so far are answered by its echo."""
        self.beat += 1
        self._sent += [(self.beat, read) for read in self._asked]
        self._asked = []

    def answered(self, confirmed: Index) -> list[Read]:
        """Return the questions that are answered once a majority has echoed the heartbeat of this number."""
        done = [read for beat, read in self._sent if beat <= confirmed]
        self._sent = [(beat, read) for beat, read in self._sent if beat > confirmed]
        return done

    def lost(self) -> list[Read]:
        """Return all open questions, as unanswered."""
        numbers = [read.number for _, read in self._sent] + [read.number for read in self._asked]
        return [Read(number, None) for number in numbers]
