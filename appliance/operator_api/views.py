"""What the operator API shows: the JSON of ``/v1/status`` (design.md section 5). Scripts depend on these names."""

from typing import Literal, Protocol

from msgspec import Struct

from appliance.words.ids import Digest, NodeName, Round, Term, Version
from appliance.words.models import GlobalModel
from appliance.words.settings import Host, Member, Port


class ModelView(Struct, frozen=True):
    """The newest committed global model, as this node knows it."""

    version: Version
    digest: Digest
    accuracy: float
    loss: float
    rolled_back_to: Version | None = None
    withheld: str = ""


class ListedModel(GlobalModel, frozen=True, omit_defaults=False):
    """An entry of the lineage in ``GET /v1/models``.

    Attributes:
        here: its model's bytes are on this node.
    """

    here: bool = False


class Rollback(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/rollback``."""

    version: Version


class WaitingView(Struct, frozen=True):
    """One wait: who waits, for what, for how long so far, and how long until it ends or is tried again."""

    who: Literal["node", "participant", "aggregator"]
    reason: str
    since_s: float
    until_s: float | None


class UpdateView(Struct, frozen=True):
    """This node's own newest finished update: what the paper's Table I lists of each participant."""

    round: Round
    samples: int
    accuracy: float
    loss: float


class CertificateView(Struct, frozen=True):
    """How long this node's certificate is good for, and the authority's."""

    expires_at: float
    expires_in_days: float
    authority_expires_at: float


class NetworkView(Struct, frozen=True):
    """What does not get through, as this node sees it.

    Attributes:
        unreachable: peers that the last mesh message did not reach, each with the reason.
        messages_lost: mesh messages given up since the start, for each peer.
        datagrams_refused: consensus datagrams refused since the start, for each peer (``strangers`` for others).
    """

    unreachable: dict[NodeName, str]
    messages_lost: dict[NodeName, int]
    datagrams_refused: dict[str, int]


class Status(Struct, frozen=True):
    """The answer of ``/v1/status``.

    Attributes:
        role, leader, term: as consensus on this node has them.
        round: the one that is open, or the one to come.
        model: the newest committed one.
        ready: the node leads, or follows a leader.
        summary: one line for people.
        progress: share of the training under way that is done; None when none is.
        update: this node's newest finished update since it started; None before the first.
        waiting: all that the node waits for.
        turns: how often each node was elected, by the consensus log.
        reply_keys_ready: RSA keys made ahead.
        faults: what is wrong on this node itself, a sentence each.
    """

    node: NodeName
    role: Literal["leader", "follower", "candidate"]
    term: Term
    leader: NodeName | None
    participant: Literal["active"]
    aggregator: Literal["active", "inactive"]
    round: Round
    model: ModelView | None
    peers: dict[NodeName, Literal["up", "down"]]
    period_left_s: float | None
    ready: bool
    version: str
    summary: str
    progress: float | None
    update: UpdateView | None
    waiting: list[WaitingView]
    turns: dict[NodeName, int]
    reply_keys_ready: int
    certificate: CertificateView
    uptime_s: float
    network: NetworkView
    faults: list[str]


class MembersView(Struct, frozen=True):
    """The answer of ``GET /v1/members``: where each node of the cluster is reached, as is committed.

    Attributes:
        learners: nodes that are to vote, and have not caught up yet.
    """

    voters: dict[NodeName, Member]
    learners: dict[NodeName, Member]


class NewMember(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/members``."""

    node: NodeName
    host: Host
    mesh_port: Port = 7000
    consensus_port: Port = 7001


class ReloadedView(Struct, frozen=True):
    """What reading the configuration file again has changed.

    Attributes:
        applied: what is in force now, such as "rounds.interval_s: 60.0 -> 30.0".
        at_restart: keys that differ in the file, and take effect when the node starts again.
    """

    applied: list[str]
    at_restart: list[str]


class Operated(Protocol):
    """What the API asks of a node. What waits is a coroutine."""

    def status(self) -> Status:
        """Return the state of the node now."""

    def lineage(self) -> list[GlobalModel]:
        """Return the committed global models, oldest first."""

    def elections(self) -> bytes:
        """Return the state changes seen, as a JSON array."""

    async def model(self) -> tuple[Digest, bytes] | None:
        """Return the newest committed model that this node holds; None before the first."""

    def models(self) -> list[ListedModel]:
        """Return the committed global models, oldest first, and which of their bytes are here."""

    async def model_of(self, which: str) -> tuple[Digest, bytes]:
        """Return the committed model of a version or a digest. Raises OperatorError if it is not here."""

    def roll_back(self, version: Version) -> None:
        """Make the model of an earlier version the head again, if this node leads. Raises OperatorError."""

    def resign(self) -> str | None:
        """Ask the leader to hand over; return why that can't be asked, or None."""

    def reload(self) -> ReloadedView:
        """Read the configuration file again. Raises OperatorError; then nothing has changed."""

    def revoke(self, content: bytes) -> None:
        """Take in the authority's newest revocation list. Raises OperatorError."""

    def members(self) -> MembersView:
        """Return the nodes of the cluster, as far as this node knows that to be committed."""

    async def add_member(self, new: NewMember) -> None:
        """Let a node join, if this one leads. Raises OperatorError."""

    async def remove_member(self, node: NodeName) -> None:
        """Let a node leave, if this one leads. Raises OperatorError."""
