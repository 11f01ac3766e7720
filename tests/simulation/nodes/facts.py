"""What stands for bytes in the simulation: what is on a disk, what went into a model, what is in an envelope."""

from dataclasses import dataclass, field

from appliance.rounds.participant import FinishedUpdate
from appliance.words.ids import Digest, NodeName, Round
from tests.simulation.consensus import disk as consensus_disk


@dataclass(frozen=True)
class Checkpoint:
    """A training that was cut short, and how long it would have taken still."""

    round: Round
    base: Digest
    left_s: float


@dataclass
class Disk:
    """What is durable: it survives every crash."""

    consensus: consensus_disk.Disk
    seed: bytes
    models: set[Digest] = field(default_factory=set)
    kept: FinishedUpdate | None = None
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Made:
    """What went into an aggregated model."""

    round: Round
    base: Digest | None
    update_ids: tuple[bytes, ...]
    authors: tuple[NodeName, ...]


@dataclass(frozen=True)
class Sealed:
    """An envelope with an update; nobody but the test looks at ``author``, as the way back for the receipt too."""

    id: bytes
    key_id: bytes
    token: bytes
    update: FinishedUpdate
    author: NodeName


class CrashError(Exception):
    """The node died in the middle of what it was doing."""
