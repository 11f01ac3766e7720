"""Says whether a history of registers is linearizable. Pure.

The search of Wing and Gong ("Testing and verifying concurrent objects", 1993): take some operation that no other one
precedes, let it happen, go on with the rest, and come back if that leads nowhere. With Lowe's memory ("Testing for
linearizability", 2017): the same set of operations done with the same outcome is not gone into twice. The list of
invocations and responses from which operations are lifted out is the one that Knossos and Porcupine use.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.linearizability.history import Operation, Value


@dataclass(frozen=True, slots=True)
class Violation:
    """No order explains the operations on a register.

    Attributes:
        key: the register.
        explained: the longest order that was found.
        stuck: an operation that fits nowhere after it.
    """

    key: str
    explained: tuple[Operation, ...]
    stuck: Operation


def find_violation(history: Iterable[Operation]) -> Violation | None:
    """Return None if each register's operations happened, as far as anybody saw, one at a time and in time."""
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    violations = (_search(key, _that_matter(operations)) for key, operations in sorted(by_key.items()))
    return next((violation for violation in violations if violation is not None), None)


def step(state: Value, operation: Operation) -> tuple[bool, Value]:
    """Let an operation happen: whether it can have seen what it saw, and what the register holds then."""
    known = operation.returned is not None
    match operation.kind:
        case "read":
            return not known or operation.seen == state, state
        case "write":
            return True, operation.value
        case "cas":
            possible = not known or operation.seen == state
            return possible, operation.value if operation.expected == state else state


def _that_matter(operations: Sequence[Operation]) -> list[Operation]:
    """Leave out operations without a response whose value nobody ever mentions: they may as well not have happened.

    Whatever came after such a one in some order did not look at the register, or had no response and no effect.
    """
    mentioned = {operation.expected for operation in operations if operation.kind == "cas"}
    mentioned |= {o.seen for o in operations if o.returned is not None and o.kind != "write"}
    return [
        operation
        for operation in operations
        if operation.returned is not None or (operation.kind != "read" and operation.value in mentioned)
    ]


class _Event:
    """An invocation or a response, in a list ordered by time."""

    __slots__ = ("after", "before", "invokes", "number", "operation", "response")

    def __init__(self, number: int, operation: Operation, *, invokes: bool) -> None:
        self.number = number
        self.operation = operation
        self.invokes = invokes
        self.response: _Event | None = None
        self.before: _Event | None = None
        self.after: _Event | None = None

    def lift(self) -> None:
        """Take this invocation and its response out of the list."""
        for event in (self, self.response):
            if event is not None:
                assert event.before is not None
                event.before.after = event.after
                if event.after is not None:
                    event.after.before = event.before

    def put_back(self) -> None:
        """Undo ``lift``; in reverse order of all lifts."""
        for event in (self.response, self):
            if event is not None:
                assert event.before is not None
                event.before.after = event
                if event.after is not None:
                    event.after.before = event


def _events(operations: Sequence[Operation]) -> _Event:
    """Return the head of the list; the head itself is no event."""
    timed: list[tuple[float, bool, _Event]] = []
    for number, operation in enumerate(operations):
        invocation = _Event(number, operation, invokes=True)
        timed.append((operation.invoked, False, invocation))
        if operation.returned is not None:
            invocation.response = _Event(number, operation, invokes=False)
            timed.append((operation.returned, True, invocation.response))
    # At one and the same time invocations come first: such operations are taken for concurrent, never for ordered.
    timed.sort(key=lambda event: event[:2])
    head = _Event(-1, Operation(client="", key="", kind="read", invoked=0.0, returned=0.0), invokes=False)
    for before, after in pairwise([head, *(event for _, _, event in timed)]):
        before.after, after.before = after, before
    return head


def _search(key: str, operations: Sequence[Operation]) -> Violation | None:
    head = _events(operations)
    left = sum(operation.returned is not None for operation in operations)
    state: Value = None
    done = 0
    been: set[tuple[int, Value]] = set()
    path: list[tuple[_Event, Value]] = []
    best: tuple[Operation, ...] = ()
    stuck: Operation | None = None
    event = head.after
    while left:
        assert event is not None, "an operation that is left has its response in the list"
        if not event.invokes:
            if stuck is None or len(path) > len(best):
                best, stuck = tuple(taken.operation for taken, _ in path), event.operation
            if not path:
                return Violation(key, best, stuck)
            event, state = path.pop()
            event.put_back()
            done &= ~(1 << event.number)
            left += event.operation.returned is not None
            event = event.after
            continue
        possible, outcome = step(state, event.operation)
        reached = (done | 1 << event.number, outcome)
        if possible and reached not in been:
            been.add(reached)
            path.append((event, state))
            done, state = reached
            left -= event.operation.returned is not None
            event.lift()
            event = head.after
        else:
            event = event.after
    return None
