"""What clients saw: operations on registers, each with the times of its invocation and of its response."""

from typing import Literal

from msgspec import Struct

Kind = Literal["read", "write", "cas"]
Value = str | None
"""What a register holds; None before the first write."""


class Operation(Struct, frozen=True, kw_only=True):
    """One operation of one client.

    Attributes:
        key: which register. Linearizability is local (Herlihy and Wing, 1990): each can be judged alone.
        value: what is written.
        expected: of a compare-and-set: ``value`` is written only in the place of this.
        seen: what a read saw, or a compare-and-set found; it wrote if that was ``expected``.
        invoked, returned: seconds on one monotonic clock. ``returned`` is None if the client never learned what became
            of it: then it may have happened at any time after its invocation, or never, and ``seen`` says nothing.
    """

    client: str
    key: str
    kind: Kind
    value: Value = None
    expected: Value = None
    seen: Value = None
    invoked: float
    returned: float | None
