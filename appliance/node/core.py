"""One node's decisions, pure: the lineage and the two sides of a round, driven by what consensus says."""

from collections.abc import Collection, Sequence

import msgspec

from appliance.consensus.messages import Entry
from appliance.consensus.ready import Role
from appliance.lineage.lineage import Lineage
from appliance.rounds.actions import Action, Note, RemoveModels, Tell
from appliance.rounds.aggregator import Aggregator
from appliance.rounds.collected import Phase
from appliance.rounds.participant import FinishedUpdate, Participant
from appliance.words.errors import OperatorError, StateError
from appliance.words.ids import Digest, Monotonic, NodeName, Term, Version
from appliance.words.messages import Announcement, LeaderStatement, Opening, Stored
from appliance.words.models import GlobalModel
from appliance.words.settings import Consensus, Delivery, Models, Rounds

_entry_decoder = msgspec.msgpack.Decoder(GlobalModel)
_state_decoder = msgspec.msgpack.Decoder(list[GlobalModel])

_SAME_VERSION = "run the same version of p2pfl-node on every member"
_BYTES_PER_S = 8 * 1024 * 1024
"""At which a model is taken to be on its way, sealing and the stem of peers included."""


class NodeCore:
    """What a node does on each event of consensus and of the mesh. Opens no socket, reads no clock, starts no thread.

    The shell passes events in and carries the returned actions out in their order. Events of the aggregator's and of
    the participant's own work go straight to ``aggregator`` and ``participant``.
    """

    def __init__(
        self,
        *,
        node: NodeName,
        cluster: str,
        members: frozenset[NodeName],
        rounds: Rounds,
        consensus: Consensus,
        delivery: Delivery,
        key_rounds: int,
        term: Term,
        kept: FinishedUpdate | None,
        stored: frozenset[Digest],
        now: Monotonic,
        least_updates: int = 1,
        task: str = "",
        model_bytes: int = 0,
        most_drop: float = 1.0,
        models: Models = Models(),  # noqa: B008 - frozen
        joins: bool = False,
    ) -> None:
        """Begin as a follower with what the disk holds: the term, a kept update, the models whose bytes are there.

        Args:
            least_updates: no round closes with fewer.
            task: the fingerprint of this node's task.
            model_bytes: length of its models.
            most_drop: a model that is worse than its base by more is not published.
            models: whose bytes stay.
            joins: this node is new in a cluster that is there already.
        """
        self.node = node
        self._rule = models
        self._period_s = consensus.period_s
        self._stored = set(stored)
        self._undecided: dict[Digest, Term] = dict.fromkeys(stored, term)
        self.lineage = Lineage()
        transfer_s = model_bytes / _BYTES_PER_S
        self.participant = Participant(kept, stored, now, window_s=delivery.window_s, transfer_s=transfer_s)
        self.aggregator = Aggregator(
            node,
            cluster,
            members,
            rounds,
            window_s=delivery.window_s,
            transfer_s=transfer_s,
            key_rounds=key_rounds,
            least_updates=least_updates,
            task=task,
            encoding=delivery.compression,
            most_drop=most_drop,
        )
        self._task = task
        self.role = Role.FOLLOWER
        self.term = term
        self.leader: NodeName | None = None
        self.leader_since = now
        """Since when ``leader`` holds: how long it has led, or how long there has been none."""
        self._resigning = False
        self.joins = joins
        """This node is to be let into the cluster, and never was."""
        self.is_member = not joins
        """Consensus has this node, as one that votes or is about to."""
        self.member_since = now
        """Since when ``is_member`` is as it is."""

    @property
    def stored(self) -> frozenset[Digest]:
        """The models whose bytes are durable on this node."""
        return frozenset(self._stored)

    @property
    def is_leading(self) -> bool:
        """Tell whether this node is the aggregator: leader, and its term's first entry is committed."""
        return self.aggregator.phase is not Phase.INACTIVE

    def period_left_s(self, now: Monotonic) -> float | None:
        """Return the seconds until this leader resigns; None on the others."""
        return max(0.0, self.leader_since + self._period_s - now) if self.role is Role.LEADER else None

    # --- events of consensus -----------------------------------------------------------------------------------------

    def role_changed(self, role: Role, term: Term, leader: NodeName | None, now: Monotonic) -> list[Action]:
        """This node's role, its term, or the leader that it knows of has changed."""
        if (term, leader) == (self.term, self.leader) and role is self.role:
            return []
        actions: list[Action] = []
        changed = (term, leader) != (self.term, self.leader)
        if self.is_leading and (role is not Role.LEADER or term != self.term):
            actions += self.aggregator.stop(now)
        if changed and (leader is not None or self.leader is not None):
            self.leader_since = now
        self.role, self.term, self.leader = role, term, leader
        if changed:
            self._resigning = False
            actions += self.participant.leader_changed(now)
        return actions

    def members_changed(self, voters: frozenset[NodeName], now: Monotonic, *, is_member: bool) -> list[Action]:
        """Consensus has other members; ``is_member``: this node is one of them, and neither removed nor yet to join."""
        actions: list[Action] = list(self.aggregator.members_changed(voters, now))
        if is_member is not self.is_member:
            self.is_member, self.member_since = is_member, now
            self.joins = False
            # Nobody talks to a removed node any more: what the leader said last must not keep it waiting.
            actions += self.participant.leader_changed(now)
        return actions

    def snapshot(self) -> bytes:
        """Return all that the committed entries so far amount to."""
        return msgspec.msgpack.encode(list(self.lineage.models))

    def restore(self, state: bytes, now: Monotonic) -> list[Action]:
        """Take the place of all committed entries so far: what ``snapshot`` returned, here or on the leader."""
        try:
            models = _state_decoder.decode(state)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise StateError(f"the snapshot of consensus can't be read here ({error}); {_SAME_VERSION}") from None
        self.lineage = Lineage(models)
        head = self.lineage.head
        if head is None:
            return []
        committed = {model.digest for model in models}
        self._decided(head.term, committed)
        # Of the round whose update is kept the model matters too: by its term it shows whether the update counted.
        news = [model for model in models if model is head or model.round == self.participant.kept_round]
        actions = [action for model in news for action in self.participant.committed(model, now)]
        return [*self._compare_task(head), *actions, self._remove_old_models()]

    def entries_committed(self, entries: Sequence[Entry], now: Monotonic) -> list[Action]:
        """Consensus committed these entries, in this order."""
        actions: list[Action] = []
        before = self.lineage.head
        for entry in entries:
            if entry.kind == "data":
                actions += self._committed(entry, now)
            elif entry.kind == "no-op" and self.role is Role.LEADER and entry.term == self.term:
                head = self.lineage.head
                is_stored = head is not None and head.digest in self._stored
                actions += self.aggregator.lead(self.term, head, now, head_is_stored=is_stored)
                if self.participant.excluded:
                    # It can't average the others' updates: another node is to lead.
                    actions += self.resign(now)
        if self.lineage.head is not before:
            actions.append(self._remove_old_models())
        return actions

    def _committed(self, entry: Entry, now: Monotonic) -> list[Action]:
        try:
            model = _entry_decoder.decode(entry.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # To leave out what others may be able to read would fork the lineage (invariant 2).
            raise StateError(
                f"entry {entry.index} of the consensus log can't be read here ({error}); {_SAME_VERSION}"
            ) from None
        if not self.lineage.apply(model):
            note = f"what the leader of term {model.term} proposed for round {model.round} does not follow: left out"
            return [Note("warning", note)]
        # A leader makes one candidate at a time: once one is committed, what else it made in its term never will be.
        is_own = self.is_leading and entry.term == self.term
        self._decided(entry.term + 1 if is_own else entry.term, {model.digest})
        compared = self._compare_task(model)
        return [*compared, *self.aggregator.committed(model, now), *self.participant.committed(model, now)]

    def _compare_task(self, head: GlobalModel) -> list[Action]:
        """Keep this node out of the rounds of a cluster that learns something else; say so once."""
        if self.participant.excluded or not head.task or not self._task or head.task == self._task:
            return []
        reason = (
            f"this node's task is {self._task}, and the cluster's is {head.task}: set [task] as on the others, restart"
        )
        self.participant.exclude(reason)
        return [Note("error", f"kept out of rounds: {reason}")]

    def _decided(self, term: Term, committed: Collection[Digest]) -> None:
        """Entries up to one of ``term`` are committed: what may yet be committed is of that term, or later.

        A candidate stored in term T is proposed in term T. Once an entry of a later term is committed, an entry of T
        that is not before it never will be (Raft, section 5.4: terms in a log never fall), so the candidate is decided.
        """
        self._undecided = {d: t for d, t in self._undecided.items() if t >= term and d not in committed}

    def _remove_old_models(self) -> RemoveModels:
        """Say which models may go: all but those to be kept, and the candidates that may yet be committed."""
        wanted = self.lineage.kept(self._rule).union(self._undecided)
        if self.aggregator.rollback is not None:
            wanted |= {self.aggregator.rollback.digest}
        old = frozenset(self._stored) - wanted
        self.models_dropped(old)
        return RemoveModels(old)

    # --- events of the mesh and of the operator -----------------------------------------------------------------------

    def leader_said(self, statement: LeaderStatement, now: Monotonic, *, with_body: bool) -> list[Action]:
        """A statement with a valid signature came. Only what the leader of the present term says is followed."""
        if (statement.leader, statement.term) != (self.leader, self.term):
            return []
        if isinstance(statement, Announcement):
            return list(self.participant.announced(statement, now))
        if isinstance(statement, Opening):
            return list(self.participant.opened(statement, now))
        if statement.leader == self.node:
            return []
        return self._promise(self.participant.candidate(statement, now, with_body=with_body))

    def model_stored(self, digest: Digest, now: Monotonic) -> list[Action]:
        """A model's bytes are durable on this node."""
        if digest not in self._stored:
            self._stored.add(digest)
            if digest not in self.lineage.kept(self._rule):
                self._undecided[digest] = self.term
        return [
            *self.aggregator.model_stored(digest, now),
            *self._promise(self.participant.model_stored(digest, now)),
        ]

    def _promise(self, actions: Sequence[Action]) -> list[Action]:
        """What this node says that it holds stays until it is decided, also where it was here long before.

        That is so for a rollback's candidate, which entries that this node has yet to hear of may make too old to keep.
        """
        for action in actions:
            if isinstance(action, Tell) and isinstance(action.message, Stored):
                self._undecided[action.message.digest] = self.term
        return list(actions)

    def models_dropped(self, digests: frozenset[Digest]) -> None:
        """Models are no longer on disk: too old, or found damaged."""
        self._stored -= digests
        self._undecided = {digest: term for digest, term in self._undecided.items() if digest not in digests}
        self.participant.models_dropped(digests)
        self.aggregator.models_dropped(digests)

    def roll_back(self, version: Version, now: Monotonic) -> list[Action]:
        """An operator asks that an earlier model become the head again.

        Raises:
            OperatorError: it can't; the text says why.
        """
        target, head = self.lineage.at(version), self.lineage.head
        if target is None or head is None:
            raise OperatorError(f"version {version} is not in the lineage; see p2pfl-node model list")
        if target.digest == head.digest:
            raise OperatorError(f"version {head.version}, the newest, has the bytes of version {version} already")
        if target.digest not in self._stored:
            raise OperatorError(f"the bytes of version {version} are not on this node; see p2pfl-node model list")
        if not self.is_leading or self._resigning:
            raise OperatorError("leadership is moving just now; try again in some seconds")
        if self.aggregator.rollback is not None:
            raise OperatorError(f"a rollback to version {self.aggregator.rollback.version} is under way")
        return list(self.aggregator.roll_back(target, now))

    def resign(self, now: Monotonic) -> list[Action]:
        """Hand over as soon as nothing is half done: the period is over, an operator asked, or the node stops."""
        if self._resigning or not self.is_leading:
            return []
        self._resigning = True
        return list(self.aggregator.hand_over(now))

    def hand_over_declined(self, now: Monotonic) -> list[Action]:
        """Consensus has nobody to hand over to: lead for another period."""
        if not self.is_leading:
            return []
        self._resigning = False
        self.leader_since = now
        return list(self.aggregator.hand_over_declined(now))

    def tick(self, now: Monotonic) -> list[Action]:
        """Time has passed."""
        actions: list[Action] = []
        if self.period_left_s(now) == 0.0:
            actions += self.resign(now)
        return [*actions, *self.aggregator.tick(now), *self.participant.tick(now)]
