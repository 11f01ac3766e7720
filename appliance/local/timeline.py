"""What happened to whom, in order: the material of the paper's Table II."""

from dataclasses import dataclass

from appliance.node.elections import Election
from appliance.words.ids import NodeName, Term

LETTERS = {"follower": "F", "candidate": "C", "leader": "L", "dead": "-"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of Table II.

    Attributes:
        after_s: seconds since the start.
        what: what happened.
        term: the highest that any node had been seen in.
        states: each node's letter from then on: F, C, L, or - for a dead one.
    """

    after_s: float
    what: str
    term: Term
    states: dict[NodeName, str]


@dataclass(frozen=True, slots=True)
class _Change:
    at: float
    node: NodeName
    state: str
    what: str
    term: Term = 0


class Timeline:
    """Merges what each node says of itself with what was done to it from outside, by the wall clock of this machine."""

    def __init__(self, nodes: list[NodeName], started_at: float) -> None:
        """All nodes start as followers."""
        self._nodes = nodes
        self._started_at = started_at
        self._changes: set[_Change] = set()

    def add_elections(self, node: NodeName, elections: list[Election]) -> None:
        """Take in a node's state changes; only what it says of itself, and each once."""
        for election in elections:
            if election.node == node:
                what = f"{node} {_verb(election)}"
                self._changes.add(_Change(election.at, node, election.after, what, election.term))

    def add(self, at: float, node: NodeName, state: str, what: str) -> None:
        """Take in what was done to a node from outside."""
        self._changes.add(_Change(at, node, state, what))

    def rows(self) -> list[Row]:
        """Return the table, oldest first."""
        states = dict.fromkeys(self._nodes, "F")
        rows = [Row(0.0, "start", 0, dict(states))]
        for change in sorted(self._changes, key=lambda change: change.at):
            states[change.node] = LETTERS[change.state]
            term = max(change.term, rows[-1].term)
            rows.append(Row(max(0.0, change.at - self._started_at), change.what, term, dict(states)))
        return rows


def _verb(election: Election) -> str:
    match election.before, election.after:
        case _, "leader":
            return "is elected"
        case _, "candidate":
            return "stands"
        case "leader", _:
            return "leads no more"
        case _:
            return "follows"
