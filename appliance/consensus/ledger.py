"""What the committed entries say of consensus itself: who has led how often, and which requests were done."""

from collections.abc import Mapping

from appliance.consensus.messages import Entry, Index, Request
from appliance.words.ids import NodeName

CLIENTS = 1000
"""Clients whose last request is remembered; one more makes the longest unheard be forgotten, on every node alike."""


class Ledger:
    """Grows with each committed entry, in the same way on every node, and is part of every snapshot.

    Attributes:
        turns: how often each node has led, by the no-ops.
        last_leader: whose no-op came last.
        done: each client's last request, with the index at which it was done; the longest unheard client first.
    """

    def __init__(
        self,
        turns: Mapping[NodeName, int] | None = None,
        last_leader: NodeName | None = None,
        done: Mapping[str, tuple[int, Index]] | None = None,
    ) -> None:
        self.turns = dict(turns or {})
        self.last_leader = last_leader
        self.done = dict(done or {})

    def count(self, entry: Entry) -> bool:
        """Take in the next committed entry; say whether it is to be applied, rather than a request's repetition."""
        if entry.kind == "no-op":
            self.last_leader = entry.data.decode("utf-8", errors="replace")
            self.turns[self.last_leader] = self.turns.get(self.last_leader, 0) + 1
        if entry.request is None:
            return True
        client, number = entry.request.client, entry.request.number
        last = self.done.pop(client, None)
        repeated = last is not None and number <= last[0]
        self.done[client] = last if repeated and last is not None else (number, entry.index)
        if len(self.done) > CLIENTS:
            del self.done[next(iter(self.done))]
        return not repeated

    def done_at(self, request: Request) -> Index | None:
        """Return the index at which a request was done; of a client's earlier one, that of its last."""
        number, index = self.done.get(request.client, (-1, 0))
        return index if request.number <= number else None
