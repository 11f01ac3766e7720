"""The sections of a node's configuration, each with its defaults: the part that one core or shell is given."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.words.ids import NodeName
from appliance.words.models import MOST_SAMPLES, Encoding

Port = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
AtLeastOne = Annotated[int, Meta(ge=1, le=2**63 - 1)]
"""The whole numbers of TOML have 64 bits; Python's have no end, and no words beyond 4,300 digits."""
AtLeastZero = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Host = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:%-]{1,255}$")]
"""An IP address (IPv6 with its zone, if it needs one) or a host's name."""


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file; an unknown key in it is an error."""


class Member(Section, frozen=True):
    """Where one member of the cluster is reached."""

    host: Host
    mesh_port: Port = 7000
    consensus_port: Port = 7001


class Cluster(Section, frozen=True):
    """The whole cluster, this node included; the same on every node when it begins.

    Attributes:
        join: this node is new in a cluster that is there already, and waits until its leader lets it in.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    members: dict[NodeName, Member]
    join: bool = False


class Identity(Section, frozen=True):
    """Files of this node's identity. The private key must be readable by its owner only."""

    ca: Path
    certificate: Path
    private_key: Path


class Consensus(Section, frozen=True):
    """Who elects, and the timing of elections. Defaults suit a LAN.

    Attributes:
        engine: ``p2pfl`` is this project's own; ``raftos`` is the upstream package, unsafe and installed by hand.
        heartbeat_interval_s: between two heartbeats of the leader.
        election_timeout_s: a follower that hears nothing for this long, plus up to as much again, stands for election.
        period_s: how long one node may lead before it resigns (24 h in the paper).
        raftos_secret: for the engine ``raftos`` alone, whose own cipher wants it: 32 random bytes, the same on every
            node, readable by their owner only.
    """

    engine: Literal["p2pfl", "raftos"] = "p2pfl"
    heartbeat_interval_s: Positive = 0.1
    election_timeout_s: Positive = 0.5
    period_s: Positive = 86_400.0
    raftos_secret: Path | None = None


class Rounds(Section, frozen=True):
    """When a round opens and closes.

    Attributes:
        quorum: updates needed to close at the deadline; None is a majority of the members.
        deadline_s: after this long a round closes with what it has, if that is a quorum.
        interval_s: from the opening of a round to the opening of the next, at least.
    """

    quorum: AtLeastOne | None = None
    deadline_s: Positive = 600.0
    interval_s: NonNegative = 60.0


StrategyName = Literal["mean", "median", "trimmed-mean", "krum", "norm-clipping", "fedavgm", "fedadam", "fedyogi"]
SERVER_OPTIMIZERS = ("fedavgm", "fedadam", "fedyogi")


class Aggregation(Section, frozen=True):
    """What turns the updates of a round into a global model; the same on every node.

    Attributes:
        strategy: ``mean`` is the paper's FedAvg; it and the server optimizers (``fedavgm``, ``fedadam``, ``fedyogi``)
            trust every update. The others bear some hostile ones.
        attackers: how many hostile updates a round may hold; those that trust bear none, whatever this says.
        most_samples: an update that claims to stand for more training samples is refused.
        server_learning_rate: a server optimizer's step; None is what suits it (``server_step``).
        momentum: the share of a server optimizer's first moment that stays from round to round (beta 1).
        second_momentum: the same of the second moment, of ``fedadam`` and ``fedyogi`` (beta 2).
        tau: what these two add to the second moment's root: the smaller, the more each number has a pace of its own.
        most_drop: a model whose accuracy on the leader's held-out data is lower than its base's by more than this, as a
            share, is not published; 1: all are.
    """

    strategy: StrategyName = "mean"
    attackers: AtLeastOne = 1
    most_samples: Annotated[int, Meta(ge=1, le=MOST_SAMPLES)] = MOST_SAMPLES
    server_learning_rate: Positive | None = None
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    second_momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.99
    tau: Annotated[float, Meta(ge=1e-9, le=1)] = 1e-3
    most_drop: Annotated[float, Meta(ge=0, le=1)] = 0.1

    @property
    def bears(self) -> int:
        """How many hostile updates of a round the strategy bears."""
        return 0 if self.strategy in ("mean", *SERVER_OPTIMIZERS) else self.attackers

    @property
    def least_updates(self) -> int:
        """With fewer updates the strategy can't bear its attackers: no round closes with fewer.

        More than half must be honest; Krum wants n >= 2f + 3 (Blanchard et al. 2017).
        """
        return 2 * self.bears + (3 if self.strategy == "krum" else 1)

    @property
    def server_step(self) -> float:
        """The server learning rate. Without one: 1 for FedAvgM, whose paper has none, and 0.01 for the adaptive two."""
        return self.server_learning_rate or (1.0 if self.strategy == "fedavgm" else 0.01)

    @property
    def unused(self) -> tuple[str, ...]:
        """The server optimizers' keys that are set, and that the strategy does not use."""
        keys = ("server_learning_rate", "momentum", "second_momentum", "tau")
        used = {"fedavgm": keys[:2], "fedadam": keys, "fedyogi": keys}.get(self.strategy, ())
        defaults = Aggregation()
        return tuple(key for key in keys if key not in used and getattr(self, key) != getattr(defaults, key))


class Models(Section, frozen=True):
    """Which committed models' bytes stay on this node's disk; only to these a rollback can go.

    Attributes:
        keep: the newest so many; the head's, and one to go back to, at least.
        keep_every: every n-th version too; 0: none.
        keep_old: so many of those at most.
    """

    keep: Annotated[int, Meta(ge=2, le=10_000)] = 8
    keep_every: AtLeastZero = 0
    keep_old: Annotated[int, Meta(ge=1, le=10_000)] = 16


class Training(Section, frozen=True):
    """How this node trains: Adam on mini-batches.

    Attributes:
        proximal: mu of FedProx: how strongly the weights are held near the base model's; 0 is FedAvg.
        device: ``auto`` takes the first CUDA device if there is one.
        initial: a safetensors file that begins the lineage, if this node leads first; None: a fresh network.
        judged_samples: held-out samples that an update's metrics rest on. 2,000 are enough for a percent, in a fifth of
            the time of MNIST's 10,000.
        checkpoint_s: how often at most the training under way is made durable, so that it goes on from there after a
            restart; 0: never.
        hours: when it may train, such as ``22:00-06:00`` or ``Sat-Sun 00:00-24:00`` (``words.hours``), by the
            machine's local time; empty: always.
    """

    learning_rate: Positive = 1e-3
    epochs: AtLeastOne = 1
    batch_size: AtLeastOne = 64
    proximal: NonNegative = 0.0
    threads: AtLeastOne = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: AtLeastZero = 0
    initial: Path | None = None
    judged_samples: AtLeastOne = 2000
    checkpoint_s: NonNegative = 300.0
    hours: tuple[str, ...] = ()


class Task(Section, frozen=True):
    """What is learned; the same on every node.

    Attributes:
        name: ``ann`` (the paper's network), ``cnn`` or ``tabular``; what an installed plug-in is called; or
            ``module:factory``.
        folder: where the module lies, unless Python finds it by itself.
        options: what the task itself is told.
    """

    name: Annotated[str, Meta(min_length=1, max_length=200)] = "ann"
    folder: Path | None = None
    options: dict[str, Any] = msgspec.field(default_factory=dict)


class Data(Section, frozen=True):
    """This node's shard.

    Attributes:
        source: ``digits`` (ships with the package), ``mnist`` (a folder with the IDX files in ``MNIST/raw``) or
            ``csv`` (a file); a plug-in may read something else.
        path: the folder of ``mnist``, the file of ``csv``.
        shard: which of ``shards`` parts is this node's, from 0.
        alpha: None for IID shards; else the concentration of a Dirichlet distribution over labels (small: very skewed).
        seed: of the split; the same on every node.
    """

    source: Literal["digits", "mnist", "csv"] = "digits"
    path: Path | None = None
    shard: AtLeastZero = 0
    shards: AtLeastOne = 1
    alpha: Positive | None = None
    seed: AtLeastZero = 0


class Envelopes(Section, frozen=True):
    """Sealing of messages.

    Attributes:
        seal: what wraps an envelope's content key; the same on every node. ``rsa+mlkem768`` takes both a broken RSA
            and a broken ML-KEM-768 to open, so that what is recorded today stays sealed against quantum computers.
        rsa_bits: size of a leader's key. Keys that live for one answer or for one round's tokens have 2048.
        key_rounds: a leader takes a fresh key after this many rounds.
        pool: keys for answers and tokens made ahead.
        max_message_mib: the largest mesh message that is accepted or sent.
    """

    seal: Literal["rsa", "rsa+mlkem768"] = "rsa"
    rsa_bits: Literal[2048, 3072, 4096] = 3072
    key_rounds: AtLeastOne = 16
    pool: AtLeastOne = 8
    max_message_mib: AtLeastOne = 64


class Delivery(Section, frozen=True):
    """How an update gets to the leader without telling it whose it is; the same on every node.

    Attributes:
        mode: at the end of its way along some peers an envelope goes to the leader alone (``relay``), or to every
            node (``broadcast``, as in the paper).
        window_s: when all nodes have finished training, or shortly before the deadline, each update is sent at a random
            moment within this time. 0: each is sent when it is finished, and the leader may see by that whose it is.
        compression: how updates are encoded in the rounds that this node opens as their leader. ``float32`` is exact;
            the others round the difference to the base model, and make up for it in the next round.
    """

    mode: Literal["relay", "broadcast"] = "relay"
    window_s: NonNegative = 2.0
    compression: Encoding = "float32"


class Operator(Section, frozen=True):
    """The local operator API: status, metrics."""

    host: str = "127.0.0.1"
    port: Port = 7002


class Logging(Section, frozen=True):
    """What is logged to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
