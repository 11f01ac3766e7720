"""Who waits for an answer of consensus: answered only when all that the answer tells of is durable and applied."""

import asyncio
import itertools
from collections.abc import Iterable

from appliance.consensus.core import Raft
from appliance.consensus.messages import Index, Request
from appliance.consensus.reads import Read
from appliance.consensus.ready import Role
from appliance.words.ids import Term


class Questions:
    """Open reads and open requests of this node."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._reads: dict[int, asyncio.Future[Index | None]] = {}
        self._requests: list[tuple[Request, Term, asyncio.Future[Index | None]]] = []

    def read(self) -> tuple[int, asyncio.Future[Index | None]]:
        """Open a read; return its number, and its answer to come."""
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._reads[number] = answer
        return number, answer

    def refuse(self, number: int) -> None:
        """Answer a read that could not be asked."""
        self._answer(Read(number, None))

    def request(self, request: Request, term: Term) -> asyncio.Future[Index | None]:
        """Wait for a request that this node proposed as the leader of a term."""
        answer: asyncio.Future[Index | None] = asyncio.get_running_loop().create_future()
        self._requests.append((request, term, answer))
        return answer

    def carried_out(self, reads: Iterable[Read], raft: Raft) -> None:
        """Answer what can be answered, now that all that ``raft`` has committed is durable and applied."""
        for read in reads:
            self._answer(read)
        waiting = []
        for request, term, answer in self._requests:
            done = raft.log.ledger.done_at(request)
            if answer.done():
                continue
            if done is not None or (raft.role, raft.term) != (Role.LEADER, term):
                answer.set_result(done)
            else:
                waiting.append((request, term, answer))
        self._requests = waiting

    def _answer(self, read: Read) -> None:
        answer = self._reads.pop(read.number)
        if not answer.done():
            answer.set_result(read.index)
