"""What the aggregator's life consists of: its phases, and what a round has collected so far."""

from dataclasses import dataclass, field
from enum import Enum

from appliance.words.ids import Digest, Monotonic, NodeName, Round, Term, Version
from appliance.words.messages import Announcement, Candidate, Finished, Opening, Participation, Stored, TokenWanted
from appliance.words.models import Encoding, GlobalModel, Metrics

InTheOpen = Stored | Participation | Finished | TokenWanted
"""What a member tells the leader of a round, under its own name: nothing that says which update is whose."""


class Phase(Enum):
    """What the aggregator does; each value is how ``status`` says it."""

    INACTIVE = "inactive"
    PREPARING = "preparing its key and the base model"
    RESTING = "resting until the next round is due"
    COLLECTING = "collecting updates"
    AGGREGATING = "aggregating"
    REPLICATING = "waiting for a majority to store the candidate"
    COMMITTING = "committing"


@dataclass(frozen=True, slots=True)
class OpenedUpdate:
    """What the aggregator's thread found in an envelope.

    Attributes:
        token: identifies the round's token in it; empty if it has none that is good.
        handle: names the opened arrays and reply key that wait in the thread.
        refusal: what is wrong with the content itself; empty if it can be counted.
    """

    handle: int
    update_id: bytes
    token: bytes
    round: Round
    base: Digest
    samples: int
    refusal: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate that the aggregator's thread made durable, on this node's held-out data.

    Attributes:
        base: the metrics of the round's base, if the candidate is to be compared with it.
    """

    digest: Digest
    metrics: Metrics
    base: Metrics | None = None


@dataclass(slots=True)
class Collected:
    """The round under way, from its opening to its commit.

    Attributes:
        encoding: of the round's updates.
        token_key: under which the leader signs the tokens of this round; empty until it is made.
        accepted: the counted updates' samples, by token.
        update_ids: of the counted updates, by token.
        refused: why, by token.
        unable: nodes that said that they can't train now.
        finished: nodes that said that their update is finished; whose update is which is not known by that.
        deliver: finished updates may be sent.
        expected: how many updates could come when the round closed.
        stored_by: nodes that hold the candidate durably.
        rolled_back_to: no updates are collected: the model of this version becomes the head again.
        withheld: why the aggregated model is not published; ``digest`` is then the base's.
    """

    round: Round
    opened_at: Monotonic
    deadline: Monotonic
    encoding: Encoding = "float32"
    extensions: int = 0
    token_key: bytes = b""
    accepted: dict[bytes, int] = field(default_factory=dict)
    update_ids: dict[bytes, bytes] = field(default_factory=dict)
    refused: dict[bytes, str] = field(default_factory=dict)
    digest: Digest | None = None
    metrics: Metrics | None = None
    unable: set[NodeName] = field(default_factory=set)
    finished: set[NodeName] = field(default_factory=set)
    deliver: bool = False
    expected: int = 0
    stored_by: set[NodeName] = field(default_factory=set)
    rolled_back_to: Version | None = None
    withheld: str = ""

    @property
    def is_new(self) -> bool:
        """The round makes a model that no entry of the lineage has had."""
        return self.rolled_back_to is None and not self.withheld

    @property
    def answered(self) -> int:
        """How many updates came, counted or refused: each stands for a member, since each has a token."""
        return len(self.accepted) + len(self.refused)

    def progress(self, expected: int, quorum: int) -> str:
        """Say how far the round is, for an operator."""
        what = "updates of" if self.deliver else "training to be finished in"
        count = len(self.accepted) if self.deliver else len(self.finished)
        text = f"waiting for {what} round {self.round}: {count} of {expected} (quorum {quorum})"
        if self.unable:
            text += f", not from {' and '.join(sorted(self.unable))}, unable to train now"
        if self.extensions:
            text += f", below the quorum at {self.extensions} deadline{'s' if self.extensions > 1 else ''}"
        return text

    def extend(self, quorum: int, deadline_s: float, now: Monotonic) -> str:
        """Stay open for another deadline, as this one came too early; say so, for an operator."""
        self.extensions += 1
        self.deadline = Monotonic(now + deadline_s)
        return (
            f"round {self.round} reached its deadline with {len(self.accepted)} of the {quorum} updates that it needs; "
            f"it stays open for another {deadline_s:g} s"
        )

    def replication(self, majority: int) -> str:
        """Say how far the candidate is, for an operator."""
        return f"waiting for a majority to store the candidate: {len(self.stored_by)} of {majority}"

    def compare(self, head: GlobalModel, made: Judged, most_drop: float) -> str:
        """Have the head stand for a model that is too much worse; return a line for the log then, else nothing.

        What an operator goes back to may be worse.
        """
        base = made.base
        if base is None or self.rolled_back_to is not None or base.accuracy - made.metrics.accuracy <= most_drop:
            return ""
        self.withheld = (
            f"its accuracy is {made.metrics.accuracy:.4f}, and that of version {head.version} {base.accuracy:.4f}: "
            f"it fell by more than {most_drop:g} (aggregation.most_drop)"
        )
        self.digest, self.metrics = head.digest, base
        return f"the model of round {self.round} is not published: {self.withheld}"

    def refusal(self, update: OpenedUpdate, base: Digest | None, *, is_open: bool) -> str:
        """Return why an update does not count in this round; empty if it does (invariant 4)."""
        if update.round != self.round:
            return f"it is for round {update.round}, and round {self.round} is open"
        counted = self.update_ids.get(update.token)
        if counted is not None:
            return "" if counted == update.update_id else "its token was used for another update"
        if not is_open:
            return f"late: round {self.round} has closed"
        if update.base != base:
            return "it was trained on another base model"
        return update.refusal

    def count(self, update: OpenedUpdate) -> None:
        """Note an update as counted."""
        self.accepted[update.token] = update.samples
        self.update_ids[update.token] = update.update_id
        self.refused.pop(update.token, None)

    def refuse(self, update: OpenedUpdate, reason: str) -> None:
        """Note an update as answered with a refusal; one without a token stands for no member, and for nothing."""
        if update.token and update.token not in self.accepted:
            self.refused[update.token] = reason

    def as_opening(
        self, announcement: Announcement, head: GlobalModel, expected: int, quorum: int, now: Monotonic
    ) -> Opening:
        """Return what the leader says of this round, which is on ``head``."""
        return Opening(
            cluster=announcement.cluster,
            leader=announcement.leader,
            term=announcement.term,
            round=self.round,
            base_version=head.version,
            base=head.digest,
            key_id=announcement.key_id,
            accepted=len(self.accepted),
            expected=expected,
            quorum=quorum,
            deadline_s=max(0.0, self.deadline - now),
            token_key=self.token_key,
            deliver=self.deliver,
            encoding=self.encoding,
        )

    def as_candidate(
        self, cluster: str, leader: NodeName, term: Term, head: GlobalModel | None, digest: Digest
    ) -> Candidate:
        """Return what the leader says of the candidate ``digest``, which is to follow ``head``."""
        return Candidate(cluster, leader, term, self.round, 0 if head is None else head.version + 1, digest)

    def as_global_model(
        self, term: Term, head: GlobalModel | None, digest: Digest, metrics: Metrics, now: Monotonic, *, task: str
    ) -> GlobalModel:
        """Return the lineage's next entry after ``head``; its wall time is for the shell to fill in."""
        return GlobalModel(
            version=0 if head is None else head.version + 1,
            round=self.round,
            term=term,
            digest=digest,
            base=None if head is None else head.digest,
            updates=len(self.accepted),
            expected=self.expected,
            samples=sum(self.accepted.values()),
            accuracy=metrics.accuracy,
            loss=metrics.loss,
            committed_at=0.0,
            duration_s=now - self.opened_at,
            rolled_back_to=self.rolled_back_to,
            withheld=self.withheld,
            task=task,
        )
