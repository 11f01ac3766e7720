"""The composition root: one node, from its configuration to its end. The only place that knows all the shells."""

import asyncio
import contextlib
import logging
import os
import random
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from appliance import __version__
from appliance.datagrams.driver import ConsensusDriver
from appliance.datagrams.keys import AgreedKeys
from appliance.datagrams.raftos_engine import RaftosEngine
from appliance.envelopes.pool import KeyPool
from appliance.mesh.mesh import Mesh
from appliance.mesh.throttle import Throttle
from appliance.node.aggregator_work import AggregatorWork
from appliance.node.conductor import Conductor
from appliance.node.config import Config
from appliance.node.core import NodeCore
from appliance.node.elections import Elections
from appliance.node.engine import ConsensusEngine
from appliance.node.errands import Errands
from appliance.node.members import check_addition, check_removal, members_view
from appliance.node.outbound import Outbound
from appliance.node.participant_work import ParticipantWork
from appliance.node.patience import Patience
from appliance.node.relay import Relay
from appliance.node.shells import Shells
from appliance.node.status import PeerWatch, status_of, summary, waits
from appliance.node.worker import Worker
from appliance.operator_api.server import operator_api
from appliance.operator_api.views import MembersView, NetworkView, NewMember, Status, UpdateView
from appliance.pki.identity import NodeIdentity
from appliance.pki.statements import StatementVerifier
from appliance.rounds.participant import FinishedUpdate
from appliance.storage.lock import lock_folder
from appliance.storage.models import Absent, ModelStore, UpdateStore
from appliance.storage.seeds import seed
from appliance.systemd.notify import Notifier
from appliance.tokens.wallet import Wallet
from appliance.training import datasets
from appliance.training.trainer import Trainer
from appliance.words.clock import Clock, system_clock
from appliance.words.errors import OperatorError
from appliance.words.ids import Digest, Monotonic, NodeName
from appliance.words.messages import ResignWanted
from appliance.words.models import GlobalModel
from appliance.words.settings import Member

TICK_S = 0.1
RESIGN_WITHIN_S = 4.0
AGGREGATOR_HANGS_AFTER_S = 120.0
COMPLAINTS_EVERY_S = 60.0
CLOSE_WITHIN_S = 2.0
TRAINING_NICENESS = 5
"""Training yields to heartbeats. Not more: the thread may hold the interpreter's lock when the processor is taken
from it, and then the whole node waits for it."""

log = logging.getLogger(__name__)


class Node:
    """One running node, as its operator API sees it."""

    def __init__(
        self,
        config: Config,
        *,
        core: NodeCore,
        shells: Shells,
        conductor: Conductor,
        faults: dict[str, str],
        elections: Elections,
        pool: KeyPool,
    ) -> None:
        self._config = config
        self._core = core
        self._shells = shells
        self._conductor = conductor
        self._faults = faults
        self._elections = elections
        self._pool = pool
        self._started = shells.clock()
        self._peers = PeerWatch(tuple(shells.mesh.peers), self._started)
        self._patience = Patience()
        self._next_ping = self._started

    # --- what the operator API asks ----------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return the state of the node now."""
        return status_of(
            self._core,
            self._peers,
            now=self._shells.clock(),
            started=self._started,
            expires_at=self._shells.identity.expires_at,
            turns=self._shells.consensus.status().turns,
            reply_keys_ready=self._pool.level,
            progress=self._shells.participant_work.progress,
            update=self._latest_update(),
            network=self._network(),
            faults=self._faults,
        )

    def _latest_update(self) -> UpdateView | None:
        latest = self._shells.participant_work.latest
        if latest is None:
            return None
        round_, samples, metrics = latest
        return UpdateView(round_, samples, metrics.accuracy, metrics.loss)

    def _network(self) -> NetworkView:
        refused: Counter[str] = Counter()
        for (peer, _), count in self._shells.consensus.refused.items():
            refused[peer or "strangers"] += count
        mesh = self._shells.mesh
        return NetworkView(mesh.unreachable, mesh.lost, dict(refused))

    def lineage(self) -> list[GlobalModel]:
        """Return the committed global models, oldest first."""
        return list(self._core.lineage.models)

    def elections(self) -> bytes:
        """Return the state changes seen, as a JSON array."""
        return self._elections.encode()

    async def model(self) -> tuple[Digest, bytes] | None:
        """Return the newest committed model that this node holds; None before the first."""
        for committed in reversed(self._core.lineage.models):
            content = await asyncio.to_thread(self._shells.models.get, committed.digest)
            if not isinstance(content, Absent):
                return committed.digest, content
        return None

    def resign(self) -> str | None:
        """Ask the leader to hand over; return why that can't be asked, or None."""
        leader, term = self._core.leader, self._core.term
        if leader is None or not self._core.is_member:
            return "there is no leader now"
        if not self._has_heirs:
            return "the cluster has one node: there is nobody to hand over to"
        if leader == self._core.node:
            log.info("an operator asks this node to resign")
            self._conductor.resign()
        else:
            self._shells.mesh.send(leader, ResignWanted(term))
        return None

    def members(self) -> MembersView:
        """Return the nodes of the cluster, as far as this node knows that to be committed."""
        return members_view(self._shells.consensus.status().membership, self._config.cluster)

    async def add_member(self, new: NewMember) -> None:
        """Let a node join, if this one leads; it votes by itself once it has caught up. Raises OperatorError."""
        self._require_leading()
        member = Member(new.host, new.mesh_port, new.consensus_port)
        check_addition(new.node, member, self.members())
        log.info("an operator adds %s (%s)", new.node, new.host)
        await self._shells.consensus.add(new.node, member)

    async def remove_member(self, node: NodeName) -> None:
        """Let a node leave, if this one leads; it may be this one. Raises OperatorError."""
        self._require_leading()
        check_removal(node, self.members(), self._config.rounds, self._config.aggregation)
        log.info("an operator removes %s", node)
        await self._shells.consensus.remove(node)

    def _require_leading(self) -> None:
        if not self._core.is_member:
            raise OperatorError(f"{self._core.node} is no member of the cluster; ask the leader")
        leader = self._core.leader
        if leader != self._core.node:
            raise OperatorError(f"{leader or 'nobody'} leads now; members are added and removed on the leader")

    @property
    def _has_heirs(self) -> bool:
        """Whether anybody else votes, and so can lead."""
        return bool(self._shells.consensus.status().membership.voters.keys() - {self._core.node})

    # --- its life ----------------------------------------------------------------------------------------------------

    async def serve(self, stop: asyncio.Event, notifier: Notifier) -> None:
        """Tick until ``stop`` is set, then hand over leadership.

        Raises:
            StateError: the consensus log can't be written any more.
        """
        consensus = asyncio.ensure_future(self._shells.consensus.wait())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while not stopped.done() and not consensus.done():
                self._tick(notifier)
                await asyncio.wait((stopped, consensus), timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
            notifier.stopping()
            if consensus.done():
                consensus.result()
            await self._hand_over()
        finally:
            stopped.cancel()
            consensus.cancel()

    def _tick(self, notifier: Notifier) -> None:
        now = self._shells.clock()
        self._peers.set_peers(self._shells.mesh.peers, now)
        came, went = self._peers.observe(self._shells.consensus.live_peers(), now)
        for peer in sorted(came):
            log.info("%s is up", peer)
        for peer in sorted(went):
            log.warning("%s is down", peer)
        self._conductor.tick()
        for line in self._patience.lines(waits(self._core, self._peers, now), now):
            log.info("%s", line)
        notifier.status(summary(self._core, self._peers))
        if notifier.watchdog_interval_s is not None and now >= self._next_ping and self._threads_live():
            notifier.alive()
            self._next_ping = Monotonic(now + notifier.watchdog_interval_s)

    def _threads_live(self) -> bool:
        """Training may take hours; no job of the aggregator takes more than seconds."""
        participant, aggregator = self._shells.participant, self._shells.aggregator
        return participant.is_alive and aggregator.is_alive and aggregator.busy_s < AGGREGATOR_HANGS_AFTER_S

    async def _hand_over(self) -> None:
        """Resign if this node leads: finish a commit under way, leave an open round to the next leader."""
        if not self._core.is_leading or not self._has_heirs:
            return
        log.info("stopping: handing over leadership")
        self._conductor.resign()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESIGN_WITHIN_S):
                while self._core.is_leading:
                    self._conductor.tick()
                    await asyncio.sleep(TICK_S / 4)


async def run(config: Config, stop: asyncio.Event, clock: Clock = system_clock) -> None:
    """Run a node until ``stop`` is set.

    Raises:
        OperatorError: it can't start, or not go on: one sentence that says why and what to do.
    """
    notifier = Notifier()
    bugs: list[Exception] = []
    stop_on_bugs(stop, bugs, clock)
    async with _node(config, clock) as node, operator_api(config.operator, node):
        notifier.ready()
        log.info("%s %s is up, member of %s", config.node, __version__, config.cluster.name)
        await node.serve(stop, notifier)
    if bugs:
        raise bugs[0]


def stop_on_bugs(stop: asyncio.Event, bugs: list[Exception], clock: Clock) -> None:
    """Have an exception that nobody expected end the node: systemd starts it again from what is durable.

    What the system reports is no bug, such as no more descriptors for new connections: a stranger who opens many can
    cause it, and must not end the node by it. It is said once a minute.
    """
    complaints = Throttle(COMPLAINTS_EVERY_S)

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, message = context.get("exception"), context.get("message")
        if isinstance(error, Exception) and not isinstance(error, OSError):
            log.critical("a bug ends this node: %s", message, exc_info=error)
            bugs.append(error)
            stop.set()
        elif complaints.allows((message, str(error)), clock()):
            log.warning("event loop: %s%s", message, "" if error is None else f" ({error})")

    asyncio.get_running_loop().set_exception_handler(handle)


@contextlib.asynccontextmanager
async def _node(config: Config, clock: Clock) -> AsyncIterator[Node]:
    """Wire a node: shells first, then the core that decides, then what drives it."""
    identity = NodeIdentity.load(config.identity, config.node)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(os.close, lock_folder(config.state))
        models, updates = ModelStore(config.state / "models"), UpdateStore(config.state / "update")
        shard = await asyncio.to_thread(datasets.load, config.data, config.state / "data")
        trainer = Trainer(config.training, shard)
        pool = stack.enter_context(KeyPool(config.envelopes.pool, config.envelopes.rsa_bits))
        participant_work = ParticipantWork(
            trainer, models, updates, pool, secrets.token_bytes, wallet=Wallet(seed(config.state / "tokens.seed"))
        )
        relay = Relay()
        mesh = Mesh(
            config.node,
            config.cluster.members,
            identity,
            max_message_bytes=config.max_message_bytes,
            on_message=relay.on_message,
            wants=relay.wants,
            clock=clock,
        )
        consensus = _engine(config, clock, relay)
        shells = Shells(
            consensus=consensus,
            keys=AgreedKeys(
                cluster=config.cluster.name,
                me=config.node,
                random=secrets.token_bytes,
                send=mesh.send,
                install=consensus.set_secret,
            ),
            mesh=mesh,
            identity=identity,
            verifier=StatementVerifier(identity.ca, config.cluster.name, config.cluster.members),
            models=models,
            participant=_worker(stack, "participant", TRAINING_NICENESS),
            participant_work=participant_work,
            aggregator=_worker(stack, "aggregator", 0),
            aggregator_work=AggregatorWork(trainer, models, pool, secrets.token_bytes, config.aggregation),
            clock=clock,
        )
        stack.callback(participant_work.stop)
        await stack.enter_async_context(mesh)
        await stack.enter_async_context(consensus)
        # From here to the relay's target nothing may wait: consensus begins to call back when the loop runs next.
        core = NodeCore(
            node=config.node,
            cluster=config.cluster.name,
            members=frozenset(config.cluster.members),
            rounds=config.rounds,
            least_updates=config.aggregation.least_updates,
            consensus=config.consensus,
            delivery=config.delivery,
            key_rounds=config.envelopes.key_rounds,
            term=consensus.status().term,
            kept=_finished_update(updates),
            stored=models.digests(),
            now=clock(),
            joins=config.cluster.join,
        )
        elections = Elections(config.node)
        errands = Errands(shells.aggregator, clock)
        stack.push_async_callback(errands.close)
        outbound = Outbound(core, shells, errands, config.delivery, random.SystemRandom())
        conductor = relay.target = Conductor(core, shells, errands, elections, outbound)
        yield Node(
            config, core=core, shells=shells, conductor=conductor, faults=errands.faults, elections=elections, pool=pool
        )


def _engine(config: Config, clock: Clock, relay: Relay) -> ConsensusEngine:
    if config.consensus.engine == "raftos":
        return RaftosEngine(
            me=config.node,
            cluster=config.cluster,
            settings=config.consensus,
            folder=config.state / "raftos",
            clock=clock,
            application=relay,
        )
    return ConsensusDriver(
        me=config.node,
        cluster=config.cluster,
        settings=config.consensus,
        folder=config.state / "consensus",
        random=random.Random(secrets.randbits(128)),  # noqa: S311 - spreads elections, protects nothing
        clock=clock,
        application=relay,
        joins=config.cluster.join,
    )


def _worker(stack: contextlib.AsyncExitStack, name: str, niceness: int) -> Worker:
    worker = Worker(name, niceness=niceness)

    async def close() -> None:
        if not await worker.close(CLOSE_WITHIN_S):
            log.warning("the %s thread did not end within %g s", name, CLOSE_WITHIN_S)

    stack.push_async_callback(close)
    return worker


def _finished_update(updates: UpdateStore) -> FinishedUpdate | None:
    """Return what is known of the kept update; a damaged one is said and left out."""
    record = updates.get()
    if isinstance(record, Absent):
        if record.damaged:
            log.warning("%s", record.reason)
        return None
    return FinishedUpdate(record.update_id, record.round, record.base)
