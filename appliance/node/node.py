"""One running node: what its operator API asks of it, and its life from the first tick to the last."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable

import msgspec

from appliance.envelopes.pool import KeyPool
from appliance.node.conductor import Conductor
from appliance.node.config import Config
from appliance.node.core import NodeCore
from appliance.node.elections import Elections
from appliance.node.members import check_addition, check_removal, members_view
from appliance.node.patience import Patience
from appliance.node.pulse import (
    AGGREGATOR_HANGS_AFTER_S,
    CONSENSUS_HANGS_AFTER_S,
    PARTICIPANT_HANGS_AFTER_S,
    Pulse,
)
from appliance.node.reload import reloaded
from appliance.node.shells import Shells
from appliance.node.status import PeerWatch, round_of, status_of, summary, waits
from appliance.operator_api.views import (
    ListedModel,
    MembersView,
    NetworkView,
    NewMember,
    ReloadedView,
    Status,
    UpdateView,
)
from appliance.storage.checked import Absent
from appliance.systemd.notify import Notifier
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import Digest, Monotonic, NodeName, Version
from appliance.words.messages import ResignWanted
from appliance.words.models import GlobalModel
from appliance.words.settings import Member

TICK_S = 0.1
RESIGN_WITHIN_S = 4.0

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
        reread: Callable[[], Config],
    ) -> None:
        """``reread``: reads the configuration file again, and raises ConfigurationError."""
        self._reread = reread
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
        self._consensus_pulse = Pulse(CONSENSUS_HANGS_AFTER_S, self._started)
        self._participant_pulse = Pulse(PARTICIPANT_HANGS_AFTER_S, self._started)

    # --- what the operator API asks ----------------------------------------------------------------------------------

    def status(self) -> Status:
        """Return the state of the node now."""
        return status_of(
            self._core,
            self._peers,
            now=self._shells.clock(),
            started=self._started,
            expires_at=self._shells.credentials.identity.expires_at,
            authority_expires_at=self._shells.credentials.identity.ca_end,
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

    def models(self) -> list[ListedModel]:
        """Return the committed global models, oldest first, and which of their bytes are here."""
        stored = self._core.stored
        return [
            ListedModel(**msgspec.structs.asdict(model), here=model.digest in stored)
            for model in self._core.lineage.models
        ]

    async def model_of(self, which: str) -> tuple[Digest, bytes]:
        """Return the committed model of a version or a digest. Raises OperatorError if it is not here."""
        lineage = self._core.lineage
        # More digits than any version has are none, and cost time to read.
        model = lineage.at(int(which)) if which.isascii() and which.isdigit() and len(which) < 20 else None
        known = which in {model.digest for model in lineage.models}
        if model is None and not known:
            raise OperatorError(f"{which[:100]} is neither a version nor a digest of the lineage")
        digest = which if model is None else model.digest
        content = await asyncio.to_thread(self._shells.models.get, digest)
        if isinstance(content, Absent):
            raise OperatorError(f"the bytes of {which} are not on this node: p2pfl-node model list shows which are")
        return digest, content

    def roll_back(self, version: Version) -> None:
        """Make the model of an earlier version the head again, if this node leads. Raises OperatorError."""
        self._require_leading("models are rolled back on the leader")
        self._conductor.roll_back(version)

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

    def reload(self) -> ReloadedView:
        """Read the configuration file again, and apply what can change while the node runs.

        Raises:
            OperatorError: the file can't be used; the configuration in force stays.
        """
        try:
            found = reloaded(self._config, self._reread())
        except OperatorError as error:
            log.error("reload: %s; the configuration in force stays", error)
            raise
        self._config = found.config
        self._core.aggregator.set_rounds(found.config.rounds)
        self._shells.participant_work.set_training(found.config.training)
        self._shells.hours.set(found.config.training.hours)
        logging.getLogger().setLevel(found.config.logging.level.upper())
        for change in found.applied:
            log.info("reload: %s", change)
        for key in found.at_restart:
            log.warning("reload: %s differs in the file, and takes effect when the node starts again", key)
        if not found.applied and not found.at_restart:
            log.info("reload: nothing has changed")
        return ReloadedView(found.applied, found.at_restart)

    def hang_up(self) -> None:
        """SIGHUP: reload; a file that can't be used is only logged."""
        with contextlib.suppress(OperatorError):
            self.reload()

    def log_fields(self) -> dict[str, object]:
        """Return what this node does now, for the fields of the journal's entries."""
        core = self._core
        return {"node": core.node, "role": core.role.value, "term": core.term, "round": round_of(core)}

    def revoke(self, content: bytes) -> None:
        """Take in the authority's newest revocation list, and tell the peers. Raises OperatorError."""
        try:
            if not self._shells.credentials.take_list(content):
                number = self._shells.credentials.revoked.number
                raise OperatorError(f"revocation list {number} is in force here, and the given one is not newer")
        except RemoteError as error:
            raise OperatorError(error.reason) from None

    def members(self) -> MembersView:
        """Return the nodes of the cluster, as far as this node knows that to be committed."""
        return members_view(self._shells.consensus.status().membership, self._config.cluster)

    async def add_member(self, new: NewMember) -> None:
        """Let a node join, if this one leads; it votes by itself once it has caught up. Raises OperatorError."""
        self._require_leading()
        member = Member(new.host, new.mesh_port, new.consensus_port)
        check_addition(new.node, member, self.members())
        log.info("an operator adds %s (%s)", new.node, new.host, extra={"peer": new.node, "is_news": True})
        await self._shells.consensus.add(new.node, member)

    async def remove_member(self, node: NodeName) -> None:
        """Let a node leave, if this one leads; it may be this one. Raises OperatorError."""
        self._require_leading()
        check_removal(node, self.members(), self._config.rounds, self._config.aggregation)
        log.info("an operator removes %s", node, extra={"peer": node, "is_news": True})
        await self._shells.consensus.remove(node)

    def _require_leading(self, rule: str = "members are added and removed on the leader") -> None:
        if not self._core.is_member:
            raise OperatorError(f"{self._core.node} is no member of the cluster; ask the leader")
        leader = self._core.leader
        if leader != self._core.node:
            raise OperatorError(f"{leader or 'nobody'} leads now; {rule}")

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
            if consensus.done():
                consensus.result()  # raises; and systemd, once told of a stop, would end what only waits for space
            notifier.stopping()
            await self._hand_over()
        finally:
            stopped.cancel()
            consensus.cancel()

    def _tick(self, notifier: Notifier) -> None:
        now = self._shells.clock()
        self._peers.set_peers(self._shells.mesh.peers, now)
        came, went = self._peers.observe(self._shells.consensus.live_peers(), now)
        for peer in sorted(came):
            log.info("%s is up", peer, extra={"peer": peer, "is_news": True})
        for peer in sorted(went):
            log.warning("%s is down", peer, extra={"peer": peer, "is_news": True})
        self._conductor.tick()
        for line in self._patience.lines(waits(self._core, self._peers, now), now):
            log.info("%s", line)
        notifier.status("; ".join([summary(self._core, self._peers), *self._faults.values()]))
        if notifier.watchdog_interval_s is not None and now >= self._next_ping and self._goes_on(now):
            notifier.alive()
            self._next_ping = Monotonic(now + notifier.watchdog_interval_s)

    def _goes_on(self, now: Monotonic) -> bool:
        """Tell whether all of the node moves: that this is asked, shows that the event loop does."""
        participant, aggregator = self._shells.participant, self._shells.aggregator
        trains = self._participant_pulse.moves(
            self._shells.participant_work.steps, now, is_idle=participant.busy_s == 0
        )
        agrees = self._consensus_pulse.moves(self._shells.consensus.ticks, now)
        aggregates = aggregator.busy_s < AGGREGATOR_HANGS_AFTER_S
        return trains and agrees and aggregates and participant.is_alive and aggregator.is_alive

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
