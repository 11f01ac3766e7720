"""What stands for bytes in the simulation: what is on a disk, what went into a model, what is in an envelope."""

from dataclasses import dataclass, field

from appliance.rounds.participant import FinishedUpdate
from appliance.words.ids import Digest, NodeName, Round, Term
from appliance.words.models import Encoding
from tests.simulation.consensus import disk as consensus_disk

Losses = tuple[bytes, ...]
"""What a residual stands for: the ids of the updates that lost something by their encoding, and counted."""


@dataclass(frozen=True)
class Pending:
    """The residual that holds if its update counts."""

    update_id: bytes
    term: Term
    losses: Losses


@dataclass
class Disk:
    """What is durable: it survives every crash."""

    consensus: consensus_disk.Disk
    seed: bytes
    models: set[Digest] = field(default_factory=set)
    kept: FinishedUpdate | None = None
    residual: Losses = ()
    pending: Pending | None = None

    def settle(self, update_id: bytes, term: Term | None) -> None:
        """Do as ``ResidualStore.settle``: in one write."""
        pending, self.pending = self.pending, None
        if pending is not None and (pending.update_id, pending.term) == (update_id, term):
            self.residual = pending.losses


@dataclass(frozen=True)
class Made:
    """What went into an aggregated model."""

    round: Round
    base: Digest | None
    update_ids: tuple[bytes, ...]
    authors: tuple[NodeName, ...]
    encoding: Encoding = "float32"


@dataclass(frozen=True)
class Sealed:
    """An envelope with an update; nobody but the test looks at ``author``, as the way back for the receipt too.

    ``encoding`` and ``residual`` are what its values depend on, beside the update itself.
    """

    id: bytes
    key_id: bytes
    token: bytes
    update: FinishedUpdate
    author: NodeName
    encoding: Encoding
    residual: Losses


class CrashError(Exception):
    """The node died in the middle of what it was doing."""
