"""The composition root: wires one node, from its configuration to its end. The only place that knows all the shells."""

import asyncio
import contextlib
import functools
import logging
import os
import random
import secrets
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.aggregation.tensors import size_of
from appliance.datagrams.driver import ConsensusDriver
from appliance.datagrams.keys import AgreedKeys
from appliance.datagrams.raftos_engine import RaftosEngine
from appliance.envelopes.pool import KeyPool
from appliance.mesh.mesh import Mesh
from appliance.mesh.throttle import Throttle
from appliance.node.aggregator_work import AggregatorWork
from appliance.node.checkpoints import Checkpoints
from appliance.node.conductor import Conductor
from appliance.node.config import Config
from appliance.node.core import NodeCore
from appliance.node.credentials import Credentials
from appliance.node.elections import Elections
from appliance.node.encoder import Encoder
from appliance.node.engine import ConsensusEngine
from appliance.node.errands import Errands
from appliance.node.full_disk import run_while_space_lasts
from appliance.node.node import Node
from appliance.node.outbound import Outbound
from appliance.node.participant_work import ParticipantWork
from appliance.node.relay import Relay
from appliance.node.shells import Shells
from appliance.node.training_hours import TrainingHours
from appliance.node.worker import Worker
from appliance.operator_api.server import operator_api
from appliance.pki.identity import NodeIdentity
from appliance.pki.statements import StatementVerifier
from appliance.rounds.participant import FinishedUpdate
from appliance.storage.checked import Absent
from appliance.storage.checkpoints import CheckpointStore
from appliance.storage.files import open_folder
from appliance.storage.lock import lock_folder
from appliance.storage.models import ModelStore, ResidualStore, UpdateStore
from appliance.storage.seeds import seed
from appliance.storage.spool import SpoolFile
from appliance.systemd.journal import JournalHandler
from appliance.systemd.notify import Notifier
from appliance.tokens.wallet import Wallet
from appliance.training import tasks
from appliance.training.trainer import Trainer
from appliance.words.clock import Clock, system_clock
from appliance.words.messages import Revocations

COMPLAINTS_EVERY_S = 60.0
CLOSE_WITHIN_S = 2.0
TRAINING_NICENESS = 5
"""Training yields to heartbeats. Not more: the thread may hold the interpreter's lock when the processor is taken
from it, and then the whole node waits for it."""

log = logging.getLogger(__name__)


async def run(
    config: Config,
    stop: asyncio.Event,
    clock: Clock = system_clock,
    *,
    reread: Callable[[], Config] | None = None,
    journal: JournalHandler | None = None,
) -> None:
    """Run a node until ``stop`` is set; while its disk is full, wait for space.

    Args:
        reread: reads the configuration file again, for ``p2pfl-node reload`` and SIGHUP; None: it has no file.
        journal: where the log goes; its entries get fields of what the node does.

    Raises:
        OperatorError: it can't start, or not go on: one sentence that says why and what to do.
    """
    notifier = Notifier()
    bugs: list[Exception] = []
    stop_on_bugs(stop, bugs, clock)

    async def life() -> None:
        async with _node(config, clock, reread or (lambda: config)) as node, operator_api(config.operator, node):
            if journal is not None:
                journal.context = node.log_fields
            if reread is not None:
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, node.hang_up)
            notifier.ready()
            log.info("%s %s is up, member of %s", config.node, __version__, config.cluster.name)
            await node.serve(stop, notifier)

    await run_while_space_lasts(life, state=config.state, operator=config.operator, stop=stop, notifier=notifier)
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
async def _node(config: Config, clock: Clock, reread: Callable[[], Config]) -> AsyncIterator[Node]:
    """Wire a node: shells first, then the core that decides, then what drives it."""
    identity = NodeIdentity.load(config.identity, config.node)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(os.close, lock_folder(config.state))
        models, updates = ModelStore(config.state / "models"), UpdateStore(config.state / "update")
        task = await asyncio.to_thread(tasks.load, config.task, config.data, config.state / "data")
        trainer, suite = Trainer(config.training, task), config.envelopes.seal
        if config.training.initial is not None and not models.digests():
            trainer.initial_model()  # a file that can't be used is said now, and not when this node leads
        pool = stack.enter_context(KeyPool(config.envelopes.pool, config.envelopes.rsa_bits, suite))
        participant_work = ParticipantWork(
            trainer,
            models,
            updates,
            pool,
            secrets.token_bytes,
            encoder=Encoder(trainer.layout, models, ResidualStore(config.state / "update")),
            checkpoints=Checkpoints(CheckpointStore(config.state / "training"), clock),
            training=config.training,
            wallet=Wallet(seed(config.state / "tokens.seed")),
            suite=suite,
        )
        relay = Relay()
        aggregator = _worker(stack, "aggregator", 0)
        errands = Errands(aggregator, clock)
        credentials = Credentials(
            config.identity, identity, config.state / "revoked.der", errands, changed=lambda: _trust(shells)
        )
        mesh = Mesh(
            config.node,
            config.cluster.members,
            credentials.identity,
            max_message_bytes=config.max_message_bytes,
            on_message=relay.on_message,
            wants=relay.wants,
            spool=_spool(config.state / "arriving"),
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
            credentials=credentials,
            verifier=StatementVerifier(identity.ca, config.cluster.name, config.cluster.members),
            models=models,
            participant=_worker(stack, "participant", TRAINING_NICENESS),
            participant_work=participant_work,
            aggregator=aggregator,
            aggregator_work=AggregatorWork(
                trainer,
                models,
                pool,
                secrets.token_bytes,
                config.aggregation,
                folder=config.state / "collected",
                suite=suite,
            ),
            clock=clock,
            hours=TrainingHours(config.training.hours),
        )
        shells.verifier.set_revoked(credentials.revoked.serials)
        stack.callback(participant_work.pause)
        await stack.enter_async_context(mesh)
        await stack.enter_async_context(consensus)
        # From here to the relay's target nothing may wait: consensus begins to call back when the loop runs next.
        core = NodeCore(
            node=config.node,
            cluster=config.cluster.name,
            members=frozenset(config.cluster.members),
            rounds=config.rounds,
            least_updates=config.aggregation.least_updates,
            task=trainer.fingerprint,
            model_bytes=size_of(trainer.layout),
            most_drop=config.aggregation.most_drop,
            models=config.models,
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
        stack.push_async_callback(errands.close)
        outbound = Outbound(core, shells, errands, config.delivery, random.SystemRandom())
        conductor = relay.target = Conductor(core, shells, errands, elections, outbound)
        yield Node(
            config,
            core=core,
            shells=shells,
            conductor=conductor,
            faults=errands.faults,
            elections=elections,
            pool=pool,
            reread=reread,
        )


def _trust(shells: Shells) -> None:
    """Another identity or revocation list is in force: use it everywhere, and tell the peers of the list."""
    credentials, mesh = shells.credentials, shells.mesh
    mesh.set_identity(credentials.identity, credentials.revoked.serials)
    shells.verifier.set_revoked(credentials.revoked.serials)
    for peer, serial in mesh.serials.items():
        if serial in credentials.revoked.serials:
            text = "the certificate of %s is revoked: it is out of the mesh, and of consensus"
            log.warning(text, peer, extra={"peer": peer})
            shells.keys.forget(peer)
    if credentials.revoked.der:
        mesh.broadcast(Revocations(credentials.revoked.der))


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


def _spool(folder: Path) -> Callable[[], SpoolFile]:
    open_folder(folder)
    return functools.partial(SpoolFile, folder)


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
