"""A replicated register, the smallest application of consensus there is: named values, and each client's last answer.

Pure. What comes out of a retried request must be what came out of it the first time, so answers are part of the state.
"""

import msgspec
from msgspec import Struct

from appliance.consensus.messages import Entry, Request
from tests.linearizability.history import Value


class Command(Struct, frozen=True, tag_field="do"):
    """What an entry asks for."""

    key: str
    value: str


class Write(Command, frozen=True, tag="write"):
    """Write a value."""


class CompareAndSet(Command, frozen=True, tag="cas"):
    """Write a value in the place of the expected one, and of no other."""

    expected: Value


AnyCommand = Write | CompareAndSet


class State(Struct):
    """All that the committed commands amount to.

    Attributes:
        values: what each register holds.
        answers: what each client's last command found in its register, by the request's number.
    """

    values: dict[str, str] = {}
    answers: dict[str, tuple[int, Value]] = {}

    def apply(self, entry: Entry) -> None:
        """Take in a committed entry."""
        if entry.kind != "data":
            return
        command = msgspec.msgpack.decode(entry.data, type=AnyCommand)
        before = self.values.get(command.key)
        if isinstance(command, Write) or command.expected == before:
            self.values[command.key] = command.value
        if entry.request is not None:
            self.answers[entry.request.client] = (entry.request.number, before)

    def answer(self, request: Request) -> tuple[int, Value] | None:
        """Return what the request found, with its number; None if it is not this client's last."""
        last = self.answers.get(request.client)
        return last if last is not None and last[0] == request.number else None
