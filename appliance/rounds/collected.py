"""What the aggregator's life consists of: its phases, and what a round has collected so far."""

from dataclasses import dataclass, field
from enum import Enum

from appliance.words.ids import Digest, Monotonic, NodeName, Round, Term
from appliance.words.models import GlobalModel, Metrics


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
        handle: names the opened arrays and reply key that wait in the thread.
        refusal: what is wrong with the content itself; empty if it can be counted.
    """

    handle: int
    update_id: bytes
    round: Round
    base: Digest
    samples: int
    refusal: str


@dataclass(slots=True)
class Collected:
    """The round under way, from its opening to its commit."""

    round: Round
    opened_at: Monotonic
    deadline: Monotonic
    extensions: int = 0
    accepted: dict[bytes, int] = field(default_factory=dict)
    refused: dict[bytes, str] = field(default_factory=dict)
    digest: Digest | None = None
    metrics: Metrics | None = None
    unable: set[NodeName] = field(default_factory=set)
    expected: int = 0

    @property
    def answered(self) -> int:
        """How many distinct updates came, counted or refused."""
        return len(self.accepted) + len(self.refused)

    def progress(self, expected: int, quorum: int) -> str:
        """Say how far the round is, for an operator."""
        text = f"waiting for updates of round {self.round}: {len(self.accepted)} of {expected} (quorum {quorum})"
        if self.unable:
            text += f", not from {' and '.join(sorted(self.unable))}, unable to train now"
        if self.extensions:
            text += f", below the quorum at {self.extensions} deadline{'s' if self.extensions > 1 else ''}"
        return text

    def refuse(self, update_id: bytes, reason: str, *, most: int) -> None:
        """Note an update as answered with a refusal; no more than ``most``, since anybody can invent ids."""
        if len(self.refused) < most:
            self.refused[update_id] = reason

    def as_global_model(
        self, term: Term, head: GlobalModel | None, digest: Digest, metrics: Metrics, now: Monotonic
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
        )
