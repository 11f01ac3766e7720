"""Drives the consensus core: feeds it messages and time, and carries out each ``Ready`` in its order."""

import asyncio
import contextlib
import random
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from appliance.consensus.core import Raft
from appliance.consensus.membership import Membership
from appliance.consensus.messages import ENTRY_LIMIT, Index, Message, Ping, Request, decode, encode
from appliance.consensus.ready import Fetch, Ready, Role, RoleChange
from appliance.consensus.snapshot import decode_snapshot, encode_snapshot
from appliance.datagrams.application import Application
from appliance.datagrams.liveness import Liveness
from appliance.datagrams.places import members_of, membership_of, place_of
from appliance.datagrams.questions import Questions
from appliance.datagrams.sealing import Refusal
from appliance.datagrams.shell import Datagrams
from appliance.storage.log import ConsensusLog
from appliance.words.clock import Clock
from appliance.words.errors import ApplianceError, OperatorError, RemoteError
from appliance.words.ids import Monotonic, NodeName, Term
from appliance.words.settings import Cluster, Consensus, Member

T = TypeVar("T")

COMPACT_AFTER = 4096
"""Committed entries after which they become a snapshot; half as many stay in the log, for followers that lag."""

FETCH_EVERY = 2.0
"""Seconds between two askings for a snapshot."""

_INBOX = 4096
"""Messages that wait for a slow disk, at most; more are dropped, as a full socket would drop them."""


@dataclass(frozen=True, slots=True)
class Status:
    """What can be told about consensus on this node.

    Attributes:
        first_index: the first entry that is in the log still, and not only in a snapshot.
        settled: this node leads, and its no-op is committed: it may act as the leader.
        membership: the latest that is committed; while one is under way, it is not the one that majorities are of.
        turns: how often each member has led.
    """

    role: Role
    term: Term
    leader: NodeName | None
    commit_index: Index
    last_index: Index
    first_index: Index
    settled: bool
    membership: Membership
    turns: dict[NodeName, int]


class ConsensusDriver:
    """Consensus of one node, running; an async context manager. All of it on one event loop, but for disk writes.

    Args:
        cluster: as this node was configured; who its members are now, is said by consensus.
        folder: of the durable log; no other process may use it.
        compact_after: see ``COMPACT_AFTER``.
        joins: this node is new in a cluster that is there already; it waits until that cluster's leader lets it in.

    Raises OperatorError on entry (StateError if it is the folder).
    """

    def __init__(
        self,
        *,
        me: NodeName,
        cluster: Cluster,
        settings: Consensus,
        folder: Path,
        random: random.Random,
        clock: Clock,
        application: Application,
        compact_after: int = COMPACT_AFTER,
        joins: bool = False,
    ) -> None:
        self._me = me
        self._cluster = cluster
        self._settings = settings
        self._folder = folder
        self._random = random
        self._clock = clock
        self._application = application
        self._compact_after = compact_after
        self._bootstrap = Membership({}) if joins else membership_of(cluster)
        self._inbox: list[Callable[[Monotonic], None]] = []
        self._answers: list[asyncio.Future[None]] = []
        self._questions = Questions()
        self._awake = asyncio.Event()
        self._stopping = False
        self._former_leader: NodeName | None = None
        self.ticks = 0
        """How often consensus has woken: what tells that it is not stuck."""
        self._fetch_due = clock()
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
            now = self._clock()
            self._liveness = Liveness(self._cluster.members.keys() - {self._me}, now)
            self._raft = Raft(
                node=self._me,
                bootstrap=self._bootstrap,
                settings=self._settings,
                hard_state=self._log.hard_state,
                kept=self._log.kept,
                random=self._random,
                now=now,
            )
            self._datagrams = await stack.enter_async_context(
                Datagrams(
                    cluster=self._cluster,
                    me=self._me,
                    on_message=self._on_message,
                    clock=self._clock,
                    random=secrets.token_bytes,
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

    def set_secret(self, peer: NodeName, secret: bytes | None) -> None:
        """Exchange datagrams with a peer under a secret that was agreed on with it; None: none at all."""
        self._datagrams.set_secret(peer, secret)

    async def wait(self) -> None:
        """Return when the driver was told to end; raises what ended it otherwise, such as a StateError of the disk."""
        await asyncio.shield(self._task)

    async def propose(self, data: bytes, request: Request | None = None) -> tuple[Index, Term] | None:
        """Propose an entry: its index and term, once it is durable here; None if this node can't propose.

        It is committed when ``on_committed`` brings that index with that term; brought with another term, it is lost.
        Raises StateError if the disk failed, ValueError if the data is larger than ``ENTRY_LIMIT``.
        """
        if len(data) > ENTRY_LIMIT:
            raise ValueError(f"an entry carries at most {ENTRY_LIMIT} bytes")
        return await self._ask(lambda now: self._raft.propose(data, now, request))

    async def submit(self, data: bytes, request: Request) -> Index | None:
        """Have a request done once, however often it is submitted, here or on another node (thesis, 6.3).

        Returns where it was done, once it is committed and applied here; None if this node can't say: submit it again,
        to the leader. Raises as ``propose`` does.
        """
        proposed = await self.propose(data, request)
        if proposed is None:
            return None
        answer = self._questions.request(request, self._raft.term)
        self._awake.set()  # it may be done already, and is answered only between two ``Ready``
        return await self._answer(answer)

    async def read(self) -> Index | None:
        """Wait until all is applied here that was committed anywhere when this was called (thesis, 6.4).

        None if this node can't say: it does not lead, or lost its majority meanwhile. Raises StateError if the disk
        failed.
        """
        number, answer = self._questions.read()

        def ask(now: Monotonic) -> None:
            if not self._raft.read(number, now):
                self._questions.refuse(number)

        await self._ask(ask)
        return await self._answer(answer)

    async def add(self, node: NodeName, member: Member) -> None:
        """Let a node join, if this one leads: as a learner, which votes by itself once it has caught up.

        Returns once the change is durable here; it is done when ``status().membership`` says so. Raises OperatorError
        if it can't be.
        """
        await self._ask(lambda now: self._raft.add(node, place_of(member), now))

    async def remove(self, node: NodeName) -> None:
        """Let a node leave, if this one leads; it may be this one. Returns and raises as ``add`` does."""
        await self._ask(lambda now: self._raft.remove(node, now))

    async def transfer(self, target: NodeName | None = None) -> bool:
        """Begin to hand leadership over (``Raft.transfer``); False if this node can't."""
        return await self._ask(lambda now: self._raft.transfer(now, target))

    async def resign(self) -> bool:
        """Begin to resign (``Raft.resign``); False if this node does not lead, or is the only one."""
        return await self._ask(self._raft.resign)

    def live_peers(self) -> frozenset[NodeName]:
        """Return the peers from which anything authentic came lately."""
        return self._liveness.live(self._clock())

    def snapshot(self) -> bytes | None:
        """Return the newest snapshot, for a follower that asks for it; None if there is none."""
        snapshot = self._raft.log.snapshot
        return None if snapshot is None else encode_snapshot(snapshot)

    def install(self, sender: NodeName, content: bytes) -> None:
        """Take in a snapshot that ``Application.fetch_snapshot`` asked for. Raises RemoteError if it is none."""
        snapshot = decode_snapshot(content)
        self._inbox.append(lambda now: self._raft.install(sender, snapshot, now))
        self._awake.set()

    @property
    def refused(self) -> dict[tuple[NodeName | None, Refusal], int]:
        """How many datagrams were refused, by peer (None: not a member) and reason."""
        return dict(self._datagrams.refused)

    def status(self) -> Status:
        """Return how consensus stands on this node."""
        raft, log = self._raft, self._raft.log
        return Status(
            role=raft.role,
            term=raft.term,
            leader=raft.leader,
            commit_index=log.commit,
            last_index=log.last_index,
            first_index=log.start + 1,
            settled=raft.settled,
            membership=log.settled_membership,
            turns={node: log.ledger.turns.get(node, 0) for node in sorted(log.membership.names)},
        )

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _ask(self, question: Callable[[Monotonic], T]) -> T:
        """Put a question to the core in its turn; answer when what it caused is durable and sent."""
        carried_out: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answers: list[T] = []

        def ask(now: Monotonic) -> None:
            try:
                answers.append(question(now))
            except OperatorError as error:
                carried_out.set_exception(error)
            else:
                self._answers.append(carried_out)

        self._inbox.append(ask)
        self._awake.set()
        await self._answer(carried_out)
        return answers[0]

    async def _answer(self, answer: asyncio.Future[T]) -> T:
        """Wait for an answer, or for the end of this driver, which is one too."""
        waiting: list[asyncio.Future[T] | asyncio.Task[None]] = [answer, self._task]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            await asyncio.shield(self._task)
            raise ApplianceError("consensus on this node has ended")
        return answer.result()

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
            self.ticks += 1
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
        if ready.members_changed:
            self._take_members()
        for change in ready.role_changes:
            self._tell(change)
        if ready.restored is not None:
            self._application.restore(ready.restored.state)
        if ready.committed:
            self._application.on_committed(ready.committed)
        if ready.fetch is not None:
            self._fetch(ready.fetch)
        self._compact()
        self._questions.carried_out(ready.reads, self._raft)
        for answer in answers:
            if not answer.done():
                answer.set_result(None)

    def _take_members(self) -> None:
        log = self._raft.log
        # Who is to join listens to those that it was configured with, until it knows the members.
        members = members_of(log.membership, self._cluster) or self._cluster.members
        # Who is being removed is talked to until that is committed, so that it learns of it.
        reached = {**members_of(log.settled_membership, self._cluster), **members}
        self._liveness.set_peers(reached.keys() - {self._me}, self._clock())
        self._datagrams.set_members(reached)
        self._application.on_members(members)

    def _fetch(self, fetch: Fetch) -> None:
        now = self._clock()
        if now >= self._fetch_due:
            self._fetch_due = Monotonic(now + FETCH_EVERY)
            self._application.fetch_snapshot(fetch.leader)

    def _compact(self) -> None:
        """Make a snapshot of what is applied, if the log has grown long; all that is committed is applied here."""
        log = self._raft.log
        if log.commit - (0 if log.snapshot is None else log.snapshot.index) >= self._compact_after:
            self._raft.compact(self._application.snapshot(), keep=self._compact_after // 2)
            self._awake.set()

    def _tell(self, change: RoleChange) -> None:
        if self._former_leader not in (None, change.leader):
            # If its silence is what the change comes from, neither the next round nor an envelope's stem need to count
            # on it until it would be down by the common rule. One that resigned was heard just now.
            silent_s = self._settings.election_timeout_s / 2
            self._liveness.doubt(self._former_leader, silent_s, self._clock())
        self._former_leader = change.leader or self._former_leader
        self._application.on_role(change.role, change.term, change.leader)

    async def _save(self, ready: Ready) -> None:
        saving = asyncio.get_running_loop().run_in_executor(
            self._writer, self._log.save, ready.hard_state, ready.compaction, ready.truncate_from, ready.entries
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
