"""A simulated node: the real cores, with a disk that survives a crash, and work that takes virtual time.

What the shells do with bytes is done here with facts: a model is its digest and what went into it, an envelope is a
message that only the holder of a key looks into.
"""

import random
from collections.abc import Callable, Sequence

import msgspec

from appliance.consensus import membership
from appliance.consensus.core import Raft
from appliance.consensus.messages import Message
from appliance.consensus.ready import Ready, Role
from appliance.consensus.snapshot import Snapshot
from appliance.node.core import NodeCore
from appliance.rounds import actions as do
from appliance.rounds.collected import Judged, OpenedUpdate
from appliance.rounds.participant import FinishedUpdate
from appliance.words.errors import OperatorError
from appliance.words.ids import Digest, NodeName, Round, digest_of
from appliance.words.messages import (
    Announcement,
    Finished,
    LeaderStatement,
    Opening,
    Participation,
    Stored,
    TokenWanted,
)
from appliance.words.models import Metrics
from appliance.words.settings import Consensus, Delivery, Models, Rounds
from tests.simulation.consensus import disk as consensus_disk
from tests.simulation.nodes.facts import CrashError, Disk, Made, Pending, Sealed
from tests.simulation.nodes.outbound import Outbound
from tests.simulation.nodes.world import Delivered, World

LIVE_WITHIN_S = 2.0

WORSE = 1 / 10
"""How often a round makes a model that must not be published."""

COMPACT_AFTER = 6
"""Committed entries after which they become a snapshot: a few rounds, so that every history meets some."""


class SimulatedNode:
    """One node. ``crash`` loses all but the disk; ``start`` begins again from it."""

    def __init__(self, name: NodeName, world: World, peers: "dict[NodeName, SimulatedNode]", made: dict[Digest, Made]):
        self.name = name
        self.disk = Disk(consensus_disk.Disk(membership.of(world.names)), world.random.randbytes(32))
        self.alive = False
        self.trained: list[tuple[Round, Digest]] = []
        self.crash_at_write = 0
        self._world = world
        self._nodes = peers
        self._made = made
        self._life = 0
        self._encoding = world.encodings[world.names.index(name) % len(world.encodings)]

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin from what the disk holds."""
        self._life += 1
        self.alive = True
        disk, now = self.disk, self._world.now
        members = frozenset(self._world.names)
        self.raft = Raft(
            node=self.name,
            bootstrap=disk.consensus.bootstrap,
            settings=Consensus(period_s=40.0),
            hard_state=disk.consensus.state,
            kept=disk.consensus.open(),
            random=random.Random(self._world.random.random()),
            now=now,
        )
        self.core = NodeCore(
            node=self.name,
            cluster="simulated",
            members=members,
            rounds=Rounds(deadline_s=self._world.deadline_s, interval_s=0.0),
            consensus=Consensus(period_s=40.0),
            delivery=Delivery(window_s=self._world.window_s, compression=self._encoding),
            key_rounds=3,
            most_drop=0.1,
            models=Models(keep=3, keep_every=4, keep_old=2),
            term=disk.consensus.state.term,
            kept=disk.kept,
            stored=frozenset(disk.models),
            now=now,
        )
        self.outbound = Outbound(self, self._world)
        self._announcement: Announcement | None = None
        self._leader_key: bytes | None = None
        self._has_round_key = False
        self._token_key = b""
        self._signed: dict[NodeName, bytes] = {}
        self._last_said: tuple[Round, bool] | None = None
        self._deliver_since = now
        self._heard: dict[NodeName, float] = {}
        self._sum: list[tuple[bytes, NodeName]] = []
        self._sum_round: tuple[Round, Digest | None] = (0, None)
        self._sealed: tuple[bytes, Pending] | None = None
        self._opened: dict[int, tuple[FinishedUpdate, NodeName]] = {}
        self._handles = 0
        self._training = False
        self._doomed: set[Digest] = set()
        self._world.note(f"{self.name} starts in term {disk.consensus.state.term}")
        self._later(0.0, self._tick)

    def crash(self) -> None:
        """Lose everything but the disk."""
        self.alive = False
        self._life += 1
        self._world.note(f"{self.name} crashes")

    def _later(self, delay_s: float, event: Callable[[], None]) -> None:
        """Do something later, unless this life has ended by then."""
        life = self._life

        def guarded() -> None:
            if self.alive and life == self._life:
                self._guard(event)

        self._world.after(delay_s, guarded)

    def _guard(self, event: Callable[[], None]) -> None:
        try:
            event()
        except CrashError:
            self.crash()

    def _write(self) -> None:
        """A durable write is about to happen, or has just happened: both are moments to die at."""
        if self.crash_at_write:
            self.crash_at_write -= 1
            if self.crash_at_write == 0:
                raise CrashError

    def _tick(self) -> None:
        now = self._world.now
        if now >= self.raft.next_deadline:
            self.raft.tick(now)
        self._drain()
        self._do(self.core.aggregator.live_changed(self.live(), now))
        self._do(self.core.tick(now))
        for peer in self.peers():
            self.send(peer, lambda node: node._hear(self.name))
        self._later(0.05, self._tick)

    def live(self) -> frozenset[NodeName]:
        """Return the peers that were heard of late."""
        return frozenset(peer for peer, at in self._heard.items() if self._world.now - at < LIVE_WITHIN_S)

    def peers(self) -> list[NodeName]:
        """Return all other nodes."""
        return [name for name in self._world.names if name != self.name]

    def _hear(self, sender: NodeName) -> None:
        self._heard[sender] = self._world.now

    # --- consensus ---------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        ready = self.raft.ready()
        if ready.must_save:
            self._save(ready)
        for to, message in ready.messages:
            self.send(to, lambda node, message=message: node._step(self.name, message))  # type: ignore[misc]
        for change in ready.role_changes:
            if (change.term, change.leader) != (self.core.term, self.core.leader):
                self._announcement = None
            self._do(self.core.role_changed(change.role, change.term, change.leader, self._world.now))
            if not self.core.is_leading:
                self._leader_key = None
        if ready.restored is not None:
            self._do(self.core.restore(ready.restored.state, self._world.now))
        self._do(self.core.entries_committed(ready.committed, self._world.now))
        if ready.fetch is not None:
            self.send(ready.fetch.leader, lambda node: node._take_snapshot_wanted(self.name))
        self._compact()

    def _compact(self) -> None:
        log = self.raft.log
        if log.commit - (0 if log.snapshot is None else log.snapshot.index) >= COMPACT_AFTER:
            self.raft.compact(self.core.snapshot(), keep=COMPACT_AFTER // 2)
            self._drain()

    def _take_snapshot_wanted(self, sender: NodeName) -> None:
        snapshot = self.raft.log.snapshot
        if snapshot is not None:
            self.send(sender, lambda node: node._install(self.name, snapshot))

    def _install(self, sender: NodeName, snapshot: Snapshot) -> None:
        self.raft.install(sender, snapshot, self._world.now)
        self._drain()

    def _save(self, ready: Ready) -> None:
        self._write()
        for step in self.disk.consensus.steps(ready):
            step()
            self._write()

    def _step(self, sender: NodeName, message: Message) -> None:
        self.raft.step(sender, message, self._world.now)
        self._drain()

    # --- the mesh ----------------------------------------------------------------------------------------------------

    def send(self, to: NodeName, handle: "Callable[[SimulatedNode], None]") -> None:
        """Send something to a peer, which then handles it."""

        def deliver() -> None:
            node = self._nodes[to]
            if node.alive:
                node._guard(lambda: handle(node))

        self._world.send(self.name, to, deliver)

    def _broadcast(self, handle: "Callable[[SimulatedNode], None]") -> None:
        for peer in self.peers():
            self.send(peer, handle)
        self._later(0.0, lambda: handle(self))

    def _said(self, statement: LeaderStatement, *, with_body: bool) -> None:
        if isinstance(statement, Announcement) and (statement.term, statement.leader) == (
            self.core.term,
            self.core.leader,
        ):
            self._announcement = statement
        self._do(self.core.leader_said(statement, self._world.now, with_body=with_body))

    def _store_model(self, digest: Digest) -> None:
        self._doomed.discard(digest)
        self._write()
        self.disk.models.add(digest)
        self._write()
        self._do(self.core.model_stored(digest, self._world.now))

    def is_for_leader(self, sealed: Sealed) -> bool:
        """Tell whether an update is sealed to the key that the present leader announced."""
        return self._announcement is not None and sealed.key_id == self._announcement.key_id

    def take_update(self, sealed: Sealed, deliverer: NodeName) -> None:
        """An update was delivered here: it is opened if this node has the key."""
        if sealed.key_id != self._leader_key:
            return
        kept = sealed.update
        if deliverer != self.name:
            since_s = self._world.now - self._deliver_since
            self._world.deliveries.append(Delivered(kept.round, self.name, deliverer, sealed.author, since_s))
        self._handles += 1
        self._opened[self._handles] = (kept, sealed.author)
        is_good = sealed.token in self._signed.values()
        refusal = "" if is_good else "its token is not of this round"
        if sealed.encoding != self._encoding:
            refusal = refusal or f"it is encoded as {sealed.encoding}"
        update = OpenedUpdate(
            self._handles,
            kept.update_id,
            sealed.token if is_good else b"",
            kept.round,
            kept.base,
            100,
            refusal,
        )
        self._do(self.core.aggregator.opened_update(update, self._world.now))

    def _take_request(self, key_id: bytes, digest: Digest, sender: NodeName) -> None:
        if key_id == self._leader_key and digest in self.disk.models:
            self._send_or_self(sender, lambda node: node._store_model(digest))

    def _send_or_self(self, to: NodeName, handle: "Callable[[SimulatedNode], None]") -> None:
        if to == self.name:
            self._later(0.0, lambda: handle(self))
        else:
            self.send(to, handle)

    def _take_wanted(self, digest: Digest, sender: NodeName) -> None:
        if digest in self.disk.models:
            self.send(sender, lambda node: node._store_model(digest))

    def _take_plain(self, sender: NodeName, message: Stored | Participation | Finished | TokenWanted) -> None:
        self._do(self.core.aggregator.told(sender, message, self._world.now))

    def _round_begun(self, term: int, round_: Round) -> None:
        self._token_key = self._world.random.randbytes(32) + f"{term} {round_}".encode()
        self._signed = {}
        self._do(self.core.aggregator.round_begun(term, round_, self._token_key, self._world.now))

    def _take_token(self, token_key: bytes) -> None:
        self._do(self.core.participant.token_received(token_key, self._world.now))

    def _take_receipt(self, update_id: bytes, key_id: bytes, accepted: bool, reason: str) -> None:
        self._has_round_key = True
        now = self._world.now
        if accepted and self._sealed is not None and self._sealed[0] == key_id:
            pending = self._sealed[1]
            if pending.update_id == update_id:
                self._write()
                self.disk.pending = pending
                self._write()
        self._do(self.core.participant.received(update_id, key_id, now, accepted=accepted, reason=reason))

    # --- what the core asks for --------------------------------------------------------------------------------------

    def _do(self, actions: Sequence[do.Action]) -> None:
        for action in actions:
            self._carry_out(action)

    def _carry_out(self, action: do.Action) -> None:
        world, core = self._world, self.core
        match action:
            case do.Note():
                world.note(f"{self.name}: {action.text}")
            case do.Say(statement, to, with_body):
                if isinstance(statement, Opening) and (statement.round, statement.deliver) != self._last_said:
                    self._last_said, self._deliver_since = (statement.round, statement.deliver), self._world.now
                receivers = self.peers() if to is None else sorted(to)
                for peer in receivers:
                    self.send(peer, lambda node: node._said(statement, with_body=with_body))
                if to is None:
                    self._said(statement, with_body=False)
            case do.MakeLeaderKey(term):
                self._later(0.05, lambda: self._key_made(term))
            case do.CreateInitialModel(term):
                self._later(0.05, lambda: self._aggregated(term, 0, Made(0, None, (), ())))
            case do.BringBack(term, round_, digest):
                self._later(world.random.uniform(0.01, 0.2), lambda: self._brought_back(term, round_, digest))
            case do.ObtainModel(digest, peer):
                self.send(peer, lambda node: node._take_wanted(digest, self.name))
            case do.StartCollecting(term, round_, _, _):
                head = core.lineage.head
                self._sum, self._sum_round = [], (round_, None if head is None else head.digest)
                self._later(0.02, lambda: self._round_begun(term, round_))
            case do.SignToken(member, blinded):
                # A blind signature sees no token; what is signed here is as good as one, for one member and round.
                if self._signed.setdefault(member, blinded.rstrip(b".")) == blinded.rstrip(b"."):
                    key = self._token_key
                    self._send_or_self(member, lambda node: node._take_token(key))
            case do.Count(handle):
                kept, author = self._opened[handle]
                assert (kept.round, kept.base) == self._sum_round, "invariant 4: counted on another base"
                self._sum.append((kept.update_id, author))
            case do.Answer(handle, accepted, reason):
                kept, sender = self._opened.pop(handle)
                key_id = self._leader_key or b""
                self._send_or_self(sender, lambda node: node._take_receipt(kept.update_id, key_id, accepted, reason))
            case do.Aggregate(term, round_):
                ids, authors = tuple(update_id for update_id, _ in self._sum), tuple(name for _, name in self._sum)
                made = Made(round_, self._sum_round[1], ids, authors, self._encoding)
                self._later(world.random.uniform(0.01, 0.2), lambda: self._aggregated(term, round_, made))
            case do.Propose(model):
                if self.raft.propose(msgspec.msgpack.encode(model), world.now) is None:
                    self._do(core.aggregator.proposal_refused(world.now))
            case do.HandOver():
                if not self.raft.resign(world.now):
                    self._do(core.hand_over_declined(world.now))
            case do.RemoveModels(digests):
                self._doomed |= digests
                self._later(0.01, self._sweep)
            case _:
                self._carry_out_participant(action)

    def _carry_out_participant(self, action: do.Action) -> None:
        announcement = self._announcement
        match action:
            case do.Train(round_, base):
                self._training = True
                self.trained.append((round_, base))
                duration_s = self._world.training_s(self._world.random, self.name)
                self._later(duration_s, lambda: self._finish_training(round_, base))
            case do.StopTraining():
                if self._training:
                    self._training = False
                    self._later(0.01, self._stopped)
            case do.AskToken(leader, term, round_, token_key):
                blinded = self.disk.seed + token_key
                wanted = TokenWanted(term, round_, blinded.ljust(256, b"."))
                self._send_or_self(leader, lambda node: node._take_plain(self.name, wanted))
            case do.Deliver() if announcement is not None:
                kept = self.disk.kept
                if kept is not None and kept.update_id == action.update_id:
                    sealed = self._seal(kept, announcement, action)
                    delay_s = self._world.random.uniform(0.0, action.within_s)
                    self._later(delay_s, lambda: self.outbound.send_update(sealed))
            case do.Fetch(digest) if announcement is not None:
                key = announcement.key_id
                self._broadcast(lambda node: node._take_request(key, digest, self.name))
            case do.StoreCandidate(digest):
                if self._has_round_key and self._world.random.random() < 0.9:
                    self._later(0.02, lambda: self._store_model(digest))
                else:
                    self._later(0.02, lambda: self._unreadable(digest))
            case do.Tell(to, message):
                self._send_or_self(to, lambda node: node._take_plain(self.name, message))
            case do.Forget(update_id, settled_by):
                self._sealed = None
                self._write()
                self.disk.settle(update_id, settled_by)
                self._write()
                if self.disk.kept is not None and self.disk.kept.update_id == update_id:
                    self.disk.kept = None

    def _seal(self, kept: FinishedUpdate, announcement: Announcement, action: do.Deliver) -> Sealed:
        losses, encoding, update_id = self.disk.residual, action.encoding, kept.update_id
        assert kept.base in self.disk.models or encoding == "float32", f"{self.name} lacks what it is to encode from"
        if encoding != "float32":
            self._sealed = announcement.key_id, Pending(update_id, announcement.term, (*losses, update_id))
            first = self._world.sealed_values.setdefault((update_id, encoding), losses)
            assert first == losses, f"{self.name} seals other values of one update for another leader"
        id_, token = self._world.random.randbytes(16), self.disk.seed + action.token_key
        return Sealed(id_, announcement.key_id, token, kept, self.name, encoding, losses)

    def _unreadable(self, digest: Digest) -> None:
        self._do(self.core.participant.candidate_unreadable(digest, self._world.now))

    def _stopped(self) -> None:
        self._do(self.core.participant.training_stopped(self._world.now))

    def _finish_training(self, round_: Round, base: Digest) -> None:
        if not self._training:
            return
        self._training = False
        if self._world.random.random() < 1 / 20:
            self._do(self.core.participant.training_failed("the dice said so", self._world.now))
            return
        self._write()
        self.disk.kept = FinishedUpdate(self._world.random.randbytes(16), round_, base)
        self._write()
        self._do(self.core.participant.trained(self.disk.kept, self._world.now))

    def _key_made(self, term: int) -> None:
        if self.core.is_leading and term == self.core.term:
            self._leader_key = self._world.random.randbytes(32)
            self._do(self.core.aggregator.key_ready(term, self._leader_key, b"k" * 300, self._world.now))

    def _aggregated(self, term: int, round_: Round, made: Made) -> None:
        digest = digest_of(f"{term} {made}".encode())
        self._made[digest] = made
        self._store_model(digest)
        is_worse = self._world.random.random() < WORSE
        self._later(0.02, lambda: self._judged(term, round_, digest, 0.1 if is_worse else 0.5))

    def _brought_back(self, term: int, round_: Round, digest: Digest) -> None:
        if digest not in self.disk.models or self._world.random.random() < 1 / 20:
            self._do(self.core.aggregator.aggregation_failed(term, round_, "the dice said so", self._world.now))
            return
        self._store_model(digest)
        self._later(0.02, lambda: self._judged(term, round_, digest, 0.1))

    def _judged(self, term: int, round_: Round, digest: Digest, accuracy: float) -> None:
        judged = Judged(digest, Metrics(accuracy, 1.0, 10), Metrics(0.5, 1.0, 10))
        self._do(self.core.aggregator.aggregated(term, round_, judged, self._world.now))

    def roll_back(self, version: int) -> bool:
        """An operator asks for an earlier model; tell whether that was taken up."""
        try:
            actions = self.core.roll_back(version, self._world.now)
        except OperatorError:
            return False
        self._world.note(f"{self.name} is asked to go back to version {version}")
        self._do(actions)
        return True

    def _sweep(self) -> None:
        for digest in sorted(self._doomed):
            self._write()
            self.disk.models.discard(digest)
        self._doomed = set()

    @property
    def leads(self) -> bool:
        """Tell whether this node believes that it leads."""
        return self.alive and self.raft.role is Role.LEADER
