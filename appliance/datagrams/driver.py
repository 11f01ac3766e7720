"""Drives the consensus core: feeds it messages and time, and carries out each ``Ready`` in its order."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from appliance.consensus.core import Raft
from appliance.consensus.messages import ENTRY_LIMIT, Entry, Index, Message, Ping, decode, encode
from appliance.consensus.ready import Ready, Role, RoleChange
from appliance.datagrams.boot import next_boot
from appliance.datagrams.liveness import Liveness
from appliance.datagrams.sealing import Refusal
from appliance.datagrams.shell import Datagrams
from appliance.storage.log import ConsensusLog
from appliance.words.clock import Clock
from appliance.words.errors import ApplianceError, RemoteError
from appliance.words.ids import Monotonic, NodeName, Term
from appliance.words.settings import Cluster, Consensus

T = TypeVar("T")

OnCommitted = Callable[[tuple[Entry, ...]], None]
OnRole = Callable[[Role, Term, NodeName | None], None]

_INBOX = 4096
"""Messages that wait for a slow disk, at most; more are dropped, as a full socket would drop them."""


@dataclass(frozen=True, slots=True)
class Status:
    """What can be told about consensus on this node.

    Attributes:
        settled: this node leads, and its no-op is committed: it may act as the leader.
        led_since: None unless this node leads.
        turns: how often each member has led.
    """

    role: Role
    term: Term
    leader: NodeName | None
    commit_index: Index
    last_index: Index
    settled: bool
    led_since: Monotonic | None
    turns: dict[NodeName, int]


class ConsensusDriver:
    """Consensus of one node, running; an async context manager. All of it on one event loop, but for disk writes.

    Args:
        folder: of the durable log; no other process may use it.
        on_committed: called on the loop with committed entries, in order, each once a process: at the start with all
            that are known to be committed. Entries without meaning to the caller (kind ``no-op``) are among them.
        on_role: called on the loop with role, term and leader whenever one of them changed.

    An error that either of them raises ends the driver (``wait``), as a disk that fails does.

    Raises OperatorError on entry (StateError if it is the folder).
    """

    def __init__(
        self,
        *,
        me: NodeName,
        cluster: Cluster,
        settings: Consensus,
        folder: Path,
        secret: bytes,
        random: random.Random,
        clock: Clock,
        on_committed: OnCommitted,
        on_role: OnRole,
    ) -> None:
        self._me = me
        self._cluster = cluster
        self._settings = settings
        self._folder = folder
        self._secret = secret
        self._random = random
        self._clock = clock
        self._on_committed = on_committed
        self._on_role = on_role
        self._inbox: list[Callable[[Monotonic], None]] = []
        self._answers: list[asyncio.Future[None]] = []
        self._awake = asyncio.Event()
        self._stopping = False
        self._former_leader: NodeName | None = None
        self._raft: Raft
        self._log: ConsensusLog
        self._datagrams: Datagrams
        self._liveness: Liveness
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> "ConsensusDriver":
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            # One thread of its own: a write must not wait behind other blocking work of this process.
            self._writer = stack.enter_context(ThreadPoolExecutor(1, "consensus log"))
            self._log = await loop.run_in_executor(self._writer, ConsensusLog, self._folder)
            stack.push_async_callback(loop.run_in_executor, self._writer, self._log.close)
            boot = await loop.run_in_executor(self._writer, next_boot, self._folder / "boot")
            now = self._clock()
            members = set(self._cluster.members)
            self._liveness = Liveness(members - {self._me}, now)
            self._raft = Raft(
                node=self._me,
                members=members,
                settings=self._settings,
                hard_state=self._log.hard_state,
                log=self._log.entries,
                random=self._random,
                now=now,
            )
            self._datagrams = await stack.enter_async_context(
                Datagrams(
                    cluster=self._cluster,
                    me=self._me,
                    secret=self._secret,
                    boot=boot,
                    on_message=self._on_message,
                    clock=self._clock,
                )
            )
            self._task = asyncio.create_task(self._run(), name="consensus")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The task is asked, not cancelled: a write under way ends before its file is closed.
        self._stopping = True
        self._awake.set()
        await asyncio.wait([self._task])
        await self._stack.aclose()
        failure = None if self._task.cancelled() else self._task.exception()
        if error is None and failure is not None:
            raise failure

    async def wait(self) -> None:
        """Return when the driver was told to end; raises what ended it otherwise, such as a StateError of the disk."""
        await asyncio.shield(self._task)

    async def propose(self, data: bytes) -> tuple[Index, Term] | None:
        """Propose an entry: its index and term, once it is durable here; None if this node can't propose.

        It is committed when ``on_committed`` brings that index with that term; brought with another term, it is lost.
        Raises StateError if the disk failed, ValueError if the data is larger than ``ENTRY_LIMIT``.
        """
        if len(data) > ENTRY_LIMIT:
            raise ValueError(f"an entry carries at most {ENTRY_LIMIT} bytes")
        return await self._ask(lambda now: self._raft.propose(data, now))

    async def transfer(self, target: NodeName | None = None) -> bool:
        """Begin to hand leadership over (``Raft.transfer``); False if this node can't."""
        return await self._ask(lambda now: self._raft.transfer(now, target))

    async def resign(self) -> bool:
        """Begin to resign (``Raft.resign``); False if this node does not lead, or is the only one."""
        return await self._ask(self._raft.resign)

    def live_peers(self) -> frozenset[NodeName]:
        """Return the peers from which anything authentic came lately."""
        return self._liveness.live(self._clock())

    @property
    def refused(self) -> dict[tuple[NodeName | None, Refusal], int]:
        """How many datagrams were refused, by peer (None: not a member) and reason."""
        return dict(self._datagrams.refused)

    def status(self) -> Status:
        """Return how consensus stands on this node."""
        raft = self._raft
        return Status(
            role=raft.role,
            term=raft.term,
            leader=raft.leader,
            commit_index=raft.commit_index,
            last_index=raft.last_index,
            settled=raft.settled,
            led_since=raft.led_since,
            turns=raft.turns(),
        )

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _ask(self, question: Callable[[Monotonic], T]) -> T:
        """Put a question to the core in its turn; answer when what it caused is durable and sent."""
        carried_out: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answers: list[T] = []

        def ask(now: Monotonic) -> None:
            answers.append(question(now))
            self._answers.append(carried_out)

        self._inbox.append(ask)
        self._awake.set()
        await asyncio.wait([carried_out, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not carried_out.done():
            await asyncio.shield(self._task)
            raise ApplianceError("consensus on this node has ended")
        return answers[0]

    def _on_message(self, sender: NodeName, content: bytes) -> None:
        self._liveness.heard(sender, self._clock())
        try:
            message = decode(content)
        except RemoteError:
            self._datagrams.complain(sender, Refusal.UNSOUND)
            return
        if isinstance(message, Ping) or len(self._inbox) >= _INBOX:
            return

        def step(now: Monotonic) -> None:
            try:
                self._raft.step(sender, message, now)
            except RemoteError:
                self._datagrams.complain(sender, Refusal.UNSOUND)

        self._inbox.append(step)
        self._awake.set()

    async def _run(self) -> None:
        while not self._stopping:
            now = self._clock()
            inbox, self._inbox = self._inbox, []
            for action in inbox:
                action(now)
            if now >= self._raft.next_deadline:
                self._raft.tick(now)
            await self._carry_out(self._raft.ready())
            self._ping()
            await self._sleep()

    async def _carry_out(self, ready: Ready) -> None:
        """Durable first, then send, then apply (``Ready``); a failed write ends all."""
        answers, self._answers = self._answers, []
        if ready.must_save:
            await self._save(ready)
        self._send(ready.messages)
        for change in ready.role_changes:
            self._tell(change)
        if ready.committed:
            self._on_committed(ready.committed)
        for answer in answers:
            if not answer.done():
                answer.set_result(None)

    def _tell(self, change: RoleChange) -> None:
        if change.role is Role.LEADER and self._former_leader is not None:
            # Its silence is what made this node the leader: the next round need not wait until it counts as down.
            # One that lives (it resigned) answers the first heartbeat.
            self._liveness.forget(self._former_leader)
        self._former_leader = change.leader or self._former_leader
        self._on_role(change.role, change.term, change.leader)

    async def _save(self, ready: Ready) -> None:
        saving = asyncio.get_running_loop().run_in_executor(
            self._writer, self._log.save, ready.hard_state, ready.truncate_from, ready.entries
        )
        while not saving.done():
            await asyncio.wait([saving], timeout=self._settings.heartbeat_interval_s)
            if not saving.done():
                self._send(self._raft.keep_alive())
        saving.result()

    def _send(self, messages: Iterable[tuple[NodeName, Message]]) -> None:
        now = self._clock()
        for peer, message in messages:
            self._datagrams.send(peer, encode(message))
            self._liveness.told(peer, now)

    def _ping(self) -> None:
        self._send([(peer, Ping()) for peer in self._liveness.to_ping(self._clock())])

    async def _sleep(self) -> None:
        """Wait for a message, a question or the next deadline."""
        due = min(self._raft.next_deadline, self._liveness.next_ping)
        alarm = asyncio.get_running_loop().call_later(max(0.0, due - self._clock()), self._awake.set)
        try:
            await self._awake.wait()
        finally:
            alarm.cancel()
        self._awake.clear()
