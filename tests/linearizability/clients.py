"""Clients of the replicated register, and what each of them saw."""

import random
import threading
import time
from collections.abc import Mapping, Sequence

from appliance.consensus.messages import Request
from appliance.words.ids import NodeName
from tests.linearizability.cluster import Connection, NoAnswerError
from tests.linearizability.history import Kind, Operation, Value
from tests.linearizability.register import AnyCommand, CompareAndSet, Write
from tests.linearizability.register_node import Answer, Question

PATIENCE_S = 10.0
"""How long a client retries before it gives an operation up; it never learns then what became of it."""
TIMEOUTS_S = (0.3, 2.5)
"""How long it waits for an answer: at times longer than a node is paused for, so that late answers are heard too."""
THINK_S = 0.03
ABANDONED = 0.03
"""The share of commands that are sent and given up at once."""


class Client(threading.Thread):
    """One client that does one operation after the other until it is told to stop.

    Args:
        ports: the TCP port of each node.
        stale_reads: ask any node for what it holds, rather than the leader for what is true.

    Attributes:
        history: what it saw.
    """

    def __init__(
        self,
        name: str,
        ports: Mapping[NodeName, int],
        keys: Sequence[str],
        *,
        seed: int,
        stop: threading.Event,
        stale_reads: bool = False,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.history: list[Operation] = []
        self._ports = ports
        self._nodes = sorted(ports)
        self._keys = keys
        self._chance = random.Random(f"{seed} {name}")
        # Not "_stop", which is the thread's own.
        self._told_to_stop = stop
        self._stale_reads = stale_reads
        self._believed: NodeName | None = None
        self._connections: dict[NodeName, Connection] = {}
        self._life = 0
        self._number = 0
        self._last_seen: dict[str, Value] = {}

    def run(self) -> None:
        """Do operations of all kinds."""
        try:
            self._work()
        finally:
            for connection in self._connections.values():
                connection.close()

    def _work(self) -> None:
        while not self._told_to_stop.wait(self._chance.uniform(0.0, 2 * THINK_S)):
            key = self._chance.choice(self._keys)
            if self._chance.random() < 0.5:
                self.read(key)
            else:
                self.command(key, self._chance.choice(["write", "cas"]))

    def read(self, key: str) -> None:
        """Read a register. Attempts that failed had no effect: only the last one counts, from when it began."""
        question = Question("peek" if self._stale_reads else "read", key)
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            invoked = time.monotonic()
            answer = self._attempt(question)
            if answer is not None and answer.done:
                self._note(key, "read", invoked, answer)
                return

    def command(self, key: str, kind: Kind) -> None:
        """Write or compare and set; retry the same request until it is answered, or patience ends."""
        self._number += 1
        request = Request(f"{self.name}-{self._life}", self._number)
        value = f"{request.client}:{request.number}"
        expected = self._last_seen.get(key)
        command: AnyCommand = Write(key, value) if kind == "write" else CompareAndSet(key, value, expected)
        question = Question("command", key, command, request)
        fields: dict[str, Value] = {"value": value} if kind == "write" else {"value": value, "expected": expected}
        invoked = time.monotonic()
        if self._chance.random() < ABANDONED:
            self._send(question)
        else:
            while time.monotonic() < invoked + PATIENCE_S:
                answer = self._attempt(question)
                if answer is not None and answer.done:
                    self._note(key, kind, invoked, answer, **fields)
                    return
        self._note(key, kind, invoked, None, **fields)
        # The request may still be under way: another one must not be taken for its successor.
        self._life += 1

    def _note(self, key: str, kind: Kind, invoked: float, answer: Answer | None, **fields: Value) -> None:
        returned = None if answer is None else time.monotonic()
        seen = None if answer is None or kind == "write" else answer.value
        self.history.append(
            Operation(client=self.name, key=key, kind=kind, seen=seen, invoked=invoked, returned=returned, **fields)
        )
        if answer is not None:
            self._last_seen[key] = fields.get("value") if kind == "write" else answer.value

    def _attempt(self, question: Question) -> Answer | None:
        """Ask once; None without an answer. Whom to ask next time is learned from it."""
        node = self._choose()
        try:
            answer = self._connect(node).ask(question)
        except NoAnswerError:
            self._hang_up(node)
            answer = None
        if answer is None or not answer.done:
            self._believed = answer.leader if answer is not None and answer.leader != node else None
            time.sleep(self._chance.uniform(0.0, 2 * THINK_S))  # lest all ask again and again at the same moment
        else:
            self._believed = node
        return answer

    def _send(self, question: Question) -> None:
        """Ask once, and don't wait for the answer."""
        node = self._choose()
        try:
            self._connect(node).send(question)
        except NoAnswerError:
            pass
        finally:
            self._hang_up(node)

    def _connect(self, node: NodeName) -> Connection:
        """Return a connection that is kept: a node that was paused finds in it what was asked meanwhile."""
        timeout_s = self._chance.uniform(*TIMEOUTS_S)
        if node not in self._connections:
            self._connections[node] = Connection(self._ports[node], timeout_s)
        self._connections[node].wait_at_most(timeout_s)
        return self._connections[node]

    def _hang_up(self, node: NodeName) -> None:
        connection = self._connections.pop(node, None)
        if connection is not None:
            connection.close()

    def _choose(self) -> NodeName:
        if self._believed is None or self._stale_reads:
            return self._chance.choice(self._nodes)
        return self._believed
