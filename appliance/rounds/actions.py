"""What the two sides of a round ask their shell to do, and what they say they wait for. Plain values."""

from dataclasses import dataclass

from appliance.words.ids import Digest, Monotonic, NodeName, Round, Term
from appliance.words.messages import Finished, LeaderStatement, Participation, Stored
from appliance.words.models import Encoding, GlobalModel


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a node waits for: every wait has a reason, a since and a bound.

    Attributes:
        reason: in words for an operator, such as "updates: 2 of 3".
        since: when it began.
        until: when it ends or is tried again at the latest.
    """

    reason: str
    since: Monotonic
    until: Monotonic | None


# --- asked for by the aggregator -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MakeLeaderKey:
    """Take a fresh RSA key pair for this term; answer with ``Aggregator.key_ready``."""

    term: Term


@dataclass(frozen=True, slots=True)
class Say:
    """Sign a statement and send it to ``to`` (None: to all nodes, this one too).

    ``with_body``: for a candidate, its bytes go along, sealed under the round key.
    """

    statement: LeaderStatement
    to: frozenset[NodeName] | None = None
    with_body: bool = False


@dataclass(frozen=True, slots=True)
class CreateInitialModel:
    """Make the initial model durable here and judge it; answer with ``Aggregator.aggregated``."""

    term: Term


@dataclass(frozen=True, slots=True)
class ObtainModel:
    """Ask ``peer`` for a committed model's bytes that this leader lacks; answer with ``Aggregator.model_stored``."""

    digest: Digest
    peer: NodeName


@dataclass(frozen=True, slots=True)
class StartCollecting:
    """Begin with no update, for those trained on ``base`` and encoded so; make a fresh round key and a key for tokens.

    Answer with ``round_begun``, or with ``aggregation_failed``.
    """

    term: Term
    round: Round
    base: Digest
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class SignToken:
    """Sign, blindly, the one token of a member in this round, and send it the signature."""

    member: NodeName
    blinded: bytes


@dataclass(frozen=True, slots=True)
class Count:
    """Add the opened update to the sum."""

    handle: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Seal a receipt to the reply key of the opened update, send it, and forget the update's arrays."""

    handle: int
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Turn the sum into a model, make it durable here, judge it; answer with ``aggregated``."""

    term: Term
    round: Round


@dataclass(frozen=True, slots=True)
class BringBack:
    """Make sure that a former model's bytes are whole and durable here, judge it; answer with ``aggregated``."""

    term: Term
    round: Round
    digest: Digest


@dataclass(frozen=True, slots=True)
class Propose:
    """Propose a global model to consensus; a refusal is answered with ``Aggregator.proposal_refused``."""

    model: GlobalModel


@dataclass(frozen=True, slots=True)
class HandOver:
    """Nothing of this leader's is under way any more: consensus may resign."""


# --- asked for by the participant ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fetch:
    """Seal a request for a model's bytes to the leader and send it; answer with ``Participant.model_stored``."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class StoreCandidate:
    """Open the body that came with the candidate and make it durable; answer with ``model_stored``, or with
    ``candidate_unreadable``."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the leader, in the open: the candidate's bytes are durable here; this node can, or can't, take part; its
    update is finished."""

    to: NodeName
    message: Stored | Participation | Finished


@dataclass(frozen=True, slots=True)
class AskToken:
    """Ask the leader to sign this node's token of a round, blindly; answer with ``token_received``."""

    leader: NodeName
    term: Term
    round: Round
    token_key: bytes


@dataclass(frozen=True, slots=True)
class Train:
    """Train on the base model, from where it was left if it was begun before, and make the finished update durable;
    answer with ``trained`` or ``training_failed``."""

    round: Round
    base: Digest


@dataclass(frozen=True, slots=True)
class StopTraining:
    """Give up the training under way: its round is over. Answer with ``training_stopped``."""


@dataclass(frozen=True, slots=True)
class PauseTraining:
    """End the training under way so that it can go on later; answer with ``training_stopped``, or with ``trained``."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Seal the kept update to the announced key, with a fresh reply key in it, and send it on its way.

    Attributes:
        encoding: what the round takes.
        token_key: the key of the round's token that goes with it.
        within_s: send it at a random moment within this time, so that when it comes says little about whose it is.
    """

    update_id: bytes
    token_key: bytes
    encoding: Encoding
    within_s: float


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove the kept update: its round is committed. To be done before a later ``Train`` is begun.

    Attributes:
        term: of the leader whose model that is: by it the update counted, if that leader accepted it. None: of this
            round it is not known, or no update of it counted.
    """

    update_id: bytes
    term: Term | None


# --- asked for by the node -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RemoveModels:
    """Remove these models from disk. They are named, not the ones to keep: a candidate may be stored meanwhile."""

    digests: frozenset[Digest]


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth a line in the log.

    Attributes:
        level: a name that ``logging`` knows, in lower case.
    """

    level: str
    text: str


AggregatorAction = (
    MakeLeaderKey
    | Say
    | CreateInitialModel
    | ObtainModel
    | StartCollecting
    | SignToken
    | Count
    | Answer
    | Aggregate
    | BringBack
    | Propose
    | HandOver
    | Note
)
ParticipantAction = (
    Fetch | StoreCandidate | Tell | AskToken | Train | StopTraining | PauseTraining | Deliver | Forget | Note
)
Action = AggregatorAction | ParticipantAction | RemoveModels
