"""The two sides: clusters a, b, c, ... without network and with a clock that the story turns; with real files."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from appliance.consensus import membership
from appliance.consensus.core import Raft
from appliance.consensus.messages import RequestVote, RequestVoteReply
from appliance.consensus.ready import Role
from appliance.datagrams.raftos_shim import JsonSerializer
from appliance.storage.log import ConsensusLog
from appliance.words.ids import Monotonic
from appliance.words.settings import Consensus

Sent = tuple[str, str, Any]
"""From whom, to whom, and what."""

Passes = Callable[[Sent], bool]

NEVER_S = 1e6
"""Upstream's timers run on the real clock: they are set so far away that only the story makes anything happen."""

WAIT_S = 3.0


class Side(Protocol):
    """One cluster.

    Attributes:
        sent: what is on the wire.
        leaders: who ever led each term.
    """

    sent: list[Sent]
    leaders: dict[int, set[str]]

    async def stand(self, name: str) -> None:
        """The node's election timeout passes; upstream's candidate then is a follower first, for another timeout."""

    async def deliver(self, sent: Sent) -> None:
        """One datagram arrives."""

    async def restart(self, name: str) -> None:
        """The process ends without a word and starts again from its files."""

    async def lose_quorum(self, name: str) -> None:
        """A leader has heard no majority for its step-down time."""

    async def beat(self, name: str) -> None:
        """A leader's heartbeat is due."""

    async def propose(self, name: str, value: str) -> object:
        """A client writes at the leader; return what tells it the outcome."""

    async def outcome(self, name: str, proposal: object, /) -> str:
        """Say what the client knows in the end."""

    def standing(self, name: str) -> tuple[int, int]:
        """Return commit index and last index."""

    def leads(self, name: str) -> bool: ...

    def is_trial(self, message: Any, /) -> bool:
        """Whether the message belongs to a pre-vote, which binds nobody and elects nobody."""

    def close(self) -> None: ...


async def pump(side: Side, passes: Passes = lambda _: True, copies: int = 1) -> None:
    """Deliver what is on the wire, and what follows from it, until nobody has more to say; the rest is lost."""
    while side.sent:
        sent = side.sent.pop(0)
        for _ in range(copies if passes(sent) else 0):
            await side.deliver(sent)


def among(*names: str) -> Passes:
    """Let through what goes between these nodes."""
    return lambda sent: {sent[0], sent[1]} <= set(names)


class Theirs:
    """Upstream's ``Node``s, each with its files, never bound to a socket: its queue of datagrams is read instead."""

    def __init__(self, raftos: Any, folder: Path, size: int) -> None:
        raftos.configure({"log_path": str(folder), "serializer": JsonSerializer, "heartbeat_interval": NEVER_S})
        self._raftos = raftos
        self._addresses = {name: ("127.0.0.1", number) for number, name in enumerate("abcdefg"[:size], 1)}
        self._names = {address: name for name, address in self._addresses.items()}
        self.nodes: dict[str, Any] = {}
        self.sent: list[Sent] = []
        self.leaders: dict[int, set[str]] = defaultdict(set)
        for name in self._addresses:
            self._start(name)

    def _start(self, name: str) -> None:
        node = self.nodes[name] = self._raftos.server.Node(self._addresses[name], asyncio.get_running_loop())
        for peer in set(self._addresses) - {name}:
            node.update_cluster(self._addresses[peer])
        node.state.start()

    async def _collect(self) -> None:
        for _ in range(10):  # a message passes two tasks on its way to the queue
            await asyncio.sleep(0)
        for name, node in self.nodes.items():
            if self.leads(name):
                self.leaders[node.state.storage.term].add(name)
            while not node.requests.empty():
                request = node.requests.get_nowait()
                to = request["destination"]
                if isinstance(to, str):
                    to = (to.split(":")[0], int(to.split(":")[1]))
                self.sent.append((name, self._names[to], request["data"]))

    async def stand(self, name: str) -> None:
        self.nodes[name].state.state.election_timer.callback()
        await self._collect()

    async def deliver(self, sent: Sent) -> None:
        source, target, data = sent
        message = JsonSerializer.unpack(JsonSerializer.pack(data))
        self.nodes[target].state.request_handler({**message, "sender": self._addresses[source]})
        await self._collect()

    async def restart(self, name: str) -> None:
        self.nodes[name].state.stop()
        self._start(name)

    async def lose_quorum(self, name: str) -> None:
        self.nodes[name].state.state.step_down_timer.callback()
        await self._collect()

    async def beat(self, name: str) -> None:
        self.nodes[name].state.state.heartbeat()
        await self._collect()

    async def propose(self, name: str, value: str) -> object:
        writing = asyncio.ensure_future(self.nodes[name].state.state.execute_command({value: value}))
        await self._collect()
        return writing

    async def outcome(self, _: str, proposal: object) -> str:
        assert isinstance(proposal, asyncio.Future)
        await asyncio.wait([proposal], timeout=WAIT_S)
        return (
            f"the writer was told after at most {WAIT_S:g} s"
            if proposal.done()
            else f"the writer still waits {WAIT_S:g} s later"
        )

    def standing(self, name: str) -> tuple[int, int]:
        log = self.nodes[name].state.log
        return log.commit_index, log.last_log_index

    def leads(self, name: str) -> bool:
        return type(self.nodes[name].state.state).__name__ == "Leader"

    def is_trial(self, _: Any) -> bool:
        return False

    def close(self) -> None:
        for node in self.nodes.values():
            node.state.stop()


class Ours:
    """Cores with their durable logs, and the order that ``Ready`` demands."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder = folder
        self._members = list("abcdefg"[:size])
        self._now = Monotonic(0.0)
        self._cores: dict[str, Raft] = {}
        self._logs: dict[str, ConsensusLog] = {}
        self._committed: dict[str, dict[int, int]] = defaultdict(dict)
        self.sent: list[Sent] = []
        self.leaders: dict[int, set[str]] = defaultdict(set)
        for name in self._members:
            self._start(name)

    def _start(self, name: str) -> None:
        log = self._logs[name] = ConsensusLog(self._folder / name)
        self._cores[name] = Raft(
            node=name,
            bootstrap=membership.of(self._members),
            settings=Consensus(),
            hard_state=log.hard_state,
            kept=log.kept,
            random=random.Random(name),
            now=self._now,
        )

    def _carry_out(self, name: str) -> None:
        ready = self._cores[name].ready()
        if ready.must_save:
            self._logs[name].save(ready.hard_state, ready.compaction, ready.truncate_from, ready.entries)
        self.sent += [(name, to, message) for to, message in ready.messages]
        self._committed[name].update((entry.index, entry.term) for entry in ready.committed)
        if self.leads(name):
            self.leaders[self._cores[name].term].add(name)

    def _turn_to(self, moment: Monotonic) -> None:
        self._now = Monotonic(max(self._now, moment))

    async def stand(self, name: str) -> None:
        self._turn_to(self._cores[name].next_deadline)
        self._cores[name].tick(self._now)
        self._carry_out(name)

    async def deliver(self, sent: Sent) -> None:
        source, target, message = sent
        self._cores[target].step(source, message, self._now)
        self._carry_out(target)

    async def restart(self, name: str) -> None:
        self._logs[name].close()
        self._start(name)

    async def lose_quorum(self, name: str) -> None:
        while self.leads(name):
            await self.beat(name)

    async def beat(self, name: str) -> None:
        await self.stand(name)

    async def propose(self, name: str, value: str) -> object:
        proposal = self._cores[name].propose(value.encode(), self._now)
        self._carry_out(name)
        return proposal

    async def outcome(self, name: str, proposal: object) -> str:
        assert isinstance(proposal, tuple)
        index, term = proposal
        came = self._committed[name].get(index)
        if came is None:
            return "the writer was told nothing"
        fate = "committed" if came == term else "lost"
        return f"the writer is told that it is {fate}: index {index} came with term {came}, it wrote in term {term}"

    def standing(self, name: str) -> tuple[int, int]:
        return self._cores[name].log.commit, self._cores[name].log.last_index

    def leads(self, name: str) -> bool:
        return self._cores[name].role is Role.LEADER

    def is_trial(self, message: Any) -> bool:
        return isinstance(message, RequestVote | RequestVoteReply) and message.pre_vote

    def close(self) -> None:
        for log in self._logs.values():
            log.close()
