"""The judge itself: it accepts what one register could have done, and rejects what none could."""

import itertools
import random
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linearizability.checker import find_violation, step
from tests.linearizability.history import Kind, Operation, Value


def operation(kind: Kind, invoked: float, returned: float | None, **fields: str | None) -> Operation:
    values = {"client": f"client {invoked}", "key": "x", **fields}
    return Operation(kind=kind, invoked=invoked, returned=returned, **values)  # type: ignore[arg-type]  # key and client are given


def write(value: str, invoked: float, returned: float | None, **fields: str) -> Operation:
    return operation("write", invoked, returned, value=value, **fields)


def read(seen: Value, invoked: float, returned: float | None, **fields: str) -> Operation:
    return operation("read", invoked, returned, seen=seen, **fields)


def cas(expected: Value, value: str, seen: Value, invoked: float, returned: float | None) -> Operation:
    return operation("cas", invoked, returned, expected=expected, value=value, seen=seen)


LINEARIZABLE = {
    "nothing": [],
    "one after the other": [read(None, 0, 1), write("a", 2, 3), read("a", 4, 5)],
    "a read during a write sees what was before": [write("a", 0, 9), read(None, 1, 2)],
    "or what comes": [write("a", 0, 9), read("a", 1, 2), read("a", 3, 4)],
    "two writes at a time, in either order": [write("a", 0, 5), write("b", 1, 4), read("a", 6, 7)],
    "what touches at one moment is concurrent": [write("a", 0, 1), read(None, 1, 2)],
    "a compare-and-set that wrote": [write("a", 0, 1), cas("a", "b", "a", 2, 3), read("b", 4, 5)],
    "a compare-and-set that found another value": [write("a", 0, 1), cas("c", "b", "a", 2, 3), read("a", 4, 5)],
    "a write without response that happened late": [write("a", 0, None), read(None, 1, 2), read("a", 3, 4)],
    "a write without response that never happened": [write("a", 0, None), read(None, 1, 2), read(None, 3, 4)],
    "a compare-and-set without response that happened": [
        write("a", 0, 1),
        cas("a", "b", None, 2, None),
        read("a", 3, 4),
        read("b", 5, 6),
    ],
    "a write without response that only a failed compare-and-set tells of": [
        write("a", 0, 1),
        write("b", 2, None),
        cas("a", "c", "b", 3, 4),
    ],
    "two registers, each for itself": [write("a", 0, 1), read(None, 2, 3, key="y"), read("a", 4, 5)],
}

NOT_LINEARIZABLE = {
    "a stale read": [write("a", 0, 1), write("b", 2, 3), read("a", 4, 5)],
    "a read of nothing after a write": [write("a", 0, 1), read(None, 2, 3)],
    "a read of what nobody wrote": [write("a", 0, 1), read("z", 2, 3)],
    "a read before its write": [read("a", 0, 1), write("a", 2, 3)],
    "the new value and then the old one": [
        write("a", 0, 1),
        write("b", 2, 9),
        read("b", 3, 4),
        read("a", 5, 6),
    ],
    "two who see two writes in two orders": [
        write("a", 0, 10),
        write("b", 0, 10),
        read("a", 1, 2),
        read("b", 3, 4),
        read("a", 5, 6),
    ],
    "a write that happened twice": [
        write("a", 0, 9),
        write("b", 2, 3),
        read("a", 1, 1.5),
        read("b", 4, 5),
        read("a", 6, 7),
    ],
    "two compare-and-sets that both wrote": [
        write("a", 0, 1),
        cas("a", "b", "a", 2, 5),
        cas("a", "c", "a", 2, 5),
    ],
    "a lost update": [write("a", 0, 1), cas("a", "b", "a", 2, 3), read("a", 4, 5)],
    "a compare-and-set that wrote and says it did not": [write("a", 0, 1), cas("c", "b", "a", 2, 3), read("b", 4, 5)],
    "a write without response before its invocation": [read("a", 0, 1), write("a", 2, None)],
    "a write without response that is undone": [
        write("a", 0, 1),
        write("b", 2, None),
        read("b", 3, 4),
        read("a", 5, 6),
    ],
    "a failed compare-and-set that nothing explains": [write("a", 0, 1), cas("a", "b", "z", 2, 3)],
    "one register of two": [write("a", 0, 1, key="y"), write("a", 0, 1), read(None, 2, 3, key="y"), read("a", 2, 3)],
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_accepts(name: str) -> None:
    assert find_violation(LINEARIZABLE[name]) is None


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_rejects(name: str) -> None:
    history = NOT_LINEARIZABLE[name]
    violation = find_violation(history)
    assert violation is not None
    assert violation.stuck in history


def test_says_what_fits_nowhere() -> None:
    first, second, stale = write("a", 0, 1), write("b", 2, 3), read("a", 4, 5)
    violation = find_violation([stale, second, first])
    assert violation is not None
    assert (violation.key, violation.explained, violation.stuck) == ("x", (first, second), stale)


def reference(history: list[Operation]) -> bool:
    """Try every order of every choice of the operations without response; only for very short histories."""
    known = [o for o in history if o.returned is not None]
    unknown = [o for o in history if o.returned is None]
    return any(
        any(map(explains, itertools.permutations([*known, *happened])))
        for count in range(len(unknown) + 1)
        for happened in itertools.combinations(unknown, count)
    )


def explains(order: tuple[Operation, ...]) -> bool:
    """Tell whether the operations can have happened in this order."""
    state: Value = None
    for place, one in enumerate(order):
        if any(later.returned is not None and later.returned < one.invoked for later in order[place:]):
            return False
        possible, state = step(state, one)
        if not possible:
            return False
    return True


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    invoked = draw(st.integers(0, 6))
    lasts = draw(st.none() | st.integers(0, 5))
    values = st.sampled_from(["a", "b", None])
    return Operation(
        client="c",
        key="x",
        kind=draw(st.sampled_from(["read", "write", "cas"])),
        value=draw(st.sampled_from(["a", "b"])),
        expected=draw(values),
        seen=draw(values),
        invoked=invoked,
        returned=None if lasts is None else invoked + lasts,
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(operations(), max_size=5))
def test_agrees_with_trying_everything(history: list[Operation]) -> None:
    assert (find_violation(history) is None) == reference(history)


def long_history(chance: random.Random, count: int, clients: int) -> list[Operation]:
    """Return what clients of a real register see, with operations that overlap and some that get no response."""
    free = dict.fromkeys(range(clients), 0.0)
    planned = []
    for number in range(count):
        client = min(free, key=lambda c: free[c])
        begins = free[client] + chance.uniform(0.0, 0.1)
        ends = begins + chance.uniform(0.01, 0.5)
        free[client] = ends
        planned.append((chance.uniform(begins, ends), begins, ends, client, number))
    state: Value = None
    history = []
    for _, begins, ends, client, number in sorted(planned):
        kind: Kind = chance.choice(["read", "write", "cas"])
        lost = chance.random() < 0.02
        one = Operation(
            client=str(client),
            key="x",
            kind=kind,
            value=str(number),
            expected=state if chance.random() < 0.5 else "other",
            seen=state,
            invoked=begins,
            returned=None if lost else ends,
        )
        if not (lost and chance.random() < 0.5):
            _, state = step(state, one)
        history.append(one)
    return history


def test_long_histories_are_judged_in_seconds() -> None:
    history = long_history(random.Random(5), 4000, clients=6)
    began = time.monotonic()
    assert find_violation(history) is None
    place = next(i for i in range(3000, 4000) if history[i].kind == "read" and history[i].returned is not None)
    stale = msgspec.structs.replace(history[place], seen="0")
    assert find_violation([*history[:place], stale, *history[place + 1 :]]) is not None
    assert time.monotonic() - began < 60
