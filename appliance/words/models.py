"""What is known of a model: its metrics, and its place in the lineage."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.words.ids import Digest, Round, Term, Version

Accuracy = Annotated[float, Meta(ge=0.0, le=1.0)]
Loss = Annotated[float, Meta(ge=0.0, le=1.7976931348623157e308)]
MOST_SAMPLES = 10**12
SampleCount = Annotated[int, Meta(ge=0, le=MOST_SAMPLES)]
SampleTotal = Annotated[int, Meta(ge=0, le=MOST_SAMPLES * 100_000)]
"""Of all updates of a model: whatever each of them claims, the sum can be committed and read again."""
LATEST = 1e12
"""Of wall times, in seconds since 1970: later than any system clock can be set to."""
WallTime = Annotated[float, Meta(ge=0.0, le=LATEST)]
"""NaN and infinity are none: JSON has no word for them, so nobody could read the lineage of a leader that lies."""

Encoding = Literal["float32", "float16", "int8"]
"""How an update's weights are written for their way to the leader (``appliance.aggregation.encoding``)."""


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """How well a model does on held-out data.

    Attributes:
        accuracy: share of right answers, 0 to 1.
        loss: mean cross entropy per sample, in nats.
        samples: how many held-out samples were judged.
    """

    accuracy: Accuracy
    loss: Loss
    samples: SampleCount


class GlobalModel(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One entry of the lineage: a committed global model (design.md section 5, ``/v1/lineage``).

    What is at its default is not written: nodes of an older version read every entry that says nothing new.

    Attributes:
        version: 0 for the initial model, then one more for each.
        round: the round that made it; 0 for the initial model. A rollback takes the place of a round.
        term: the term of the leader that aggregated it.
        digest: of its bytes.
        base: the digest of the model before it; None for the initial model.
        updates: how many updates were counted.
        expected: how many nodes were live when the round closed.
        samples: how many training samples those updates stand for.
        accuracy, loss: of this model on the leader's held-out data.
        committed_at: seconds since 1970, the leader's wall clock; a record, never compared.
        duration_s: from the opening of the round to the proposal of this model, on the leader's monotonic clock.
        task: the fingerprint of the leader's task; empty in lineages of before there was one.
        rolled_back_to: the version whose bytes an operator made the head again; None where a round made the model.
        withheld: why the model that the round made was not published; the bytes are then those of the base.
    """

    version: Version
    round: Round
    term: Term
    digest: Digest
    base: Digest | None
    updates: Annotated[int, Meta(ge=0, le=100_000)]
    expected: Annotated[int, Meta(ge=0, le=100_000)]
    samples: SampleTotal
    accuracy: Accuracy
    loss: Loss
    committed_at: WallTime
    duration_s: Annotated[float, Meta(ge=0.0, le=1e9)] = 0.0
    task: Annotated[str, Meta(max_length=300)] = ""
    rolled_back_to: Version | None = None
    withheld: Annotated[str, Meta(max_length=300)] = ""

    @property
    def has_updates(self) -> bool:
        """Tell whether its bytes are made of its round's updates: neither an earlier model nor the base once more."""
        return self.rolled_back_to is None and not self.withheld

    def stamped(self, now: float) -> "GlobalModel":
        """Return it with the wall time ``now``, or what is nearest of what every node can read."""
        return msgspec.structs.replace(self, committed_at=min(max(now, 0.0), LATEST))


class TensorLayout(Struct, frozen=True, forbid_unknown_fields=True):
    """The name, dtype (safetensors' word, such as ``F32``) and shape of one tensor of a model."""

    name: str
    dtype: str
    shape: tuple[int, ...]


ModelLayout = tuple[TensorLayout, ...]
"""All tensors of a model, sorted by name: what an update must match exactly."""
