"""The configuration of a node: one frozen typed object, read once from TOML (design.md section 5)."""

import tomllib
from pathlib import Path

import msgspec

from appliance.words.errors import ConfigurationError
from appliance.words.ids import NodeName
from appliance.words.settings import (
    Cluster,
    Consensus,
    Data,
    Envelopes,
    Identity,
    Logging,
    Member,
    Operator,
    Rounds,
    Section,
    Training,
)

DEFAULT_PATH = Path("/etc/p2pfl-node/node.toml")


class Config(Section, frozen=True):
    """The whole file. Relative paths in it are relative to the file's folder."""

    node: NodeName
    cluster: Cluster
    identity: Identity
    state: Path = Path("/var/lib/p2pfl-node")
    consensus: Consensus = Consensus()
    rounds: Rounds = Rounds()
    training: Training = Training()
    data: Data = Data()
    envelopes: Envelopes = Envelopes()
    operator: Operator = Operator()
    logging: Logging = Logging()

    @property
    def me(self) -> Member:
        """This node's own entry among the members."""
        return self.cluster.members[self.node]

    @property
    def peers(self) -> tuple[NodeName, ...]:
        """All other members, sorted by name."""
        return tuple(sorted(name for name in self.cluster.members if name != self.node))

    @property
    def max_message_bytes(self) -> int:
        """The largest mesh message that is taken or sent."""
        return self.envelopes.max_message_mib * 2**20

    @property
    def quorum(self) -> int:
        """Updates needed to close a round at its deadline."""
        return self.rounds.quorum or len(self.cluster.members) // 2 + 1


def load(path: Path) -> Config:
    """Read, check and resolve a configuration file.

    Raises:
        ConfigurationError: naming the file, the key and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be read ({error.strerror}); give the file with --config") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None
    try:
        config = msgspec.convert(tomllib.loads(text), Config, dec_hook=_decode_path)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: is not valid TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: {_describe(error)}") from None
    config = _resolve(config, path.parent.resolve())
    _check(config, path)
    return config


def _decode_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise ValueError(f"expected a path, got `{value!r}`")


def _describe(error: msgspec.ValidationError) -> str:
    """Turn msgspec's "Expected ... - at `$.a.b`" into "a.b: expected ..."."""
    problem, _, place = str(error).partition(" - at `$")
    key = place.rstrip("`").lstrip(".").replace("[...]", ".*")
    problem = problem[:1].lower() + problem[1:]
    problem = problem.replace("object contains unknown field", "unknown key").replace(
        "object missing required field", "missing key"
    )
    return f"{key}: {problem}" if key else problem


def _resolve(config: Config, folder: Path) -> Config:
    identity = msgspec.structs.replace(
        config.identity,
        **{name: folder / getattr(config.identity, name) for name in config.identity.__struct_fields__},
    )
    data = config.data
    if data.path is not None:
        data = msgspec.structs.replace(data, path=folder / data.path)
    return msgspec.structs.replace(config, state=folder / config.state, identity=identity, data=data)


def _check(config: Config, path: Path) -> None:
    """Refuse what is well-typed and still can't work."""
    members = config.cluster.members

    def refuse(key: str, problem: str) -> None:
        raise ConfigurationError(f"{path}: {key}: {problem}")

    if config.node not in members:
        refuse("node", f"{config.node} is not among cluster.members ({', '.join(sorted(members))})")
    if config.quorum > len(members):
        refuse("rounds.quorum", f"is {config.quorum}, and the cluster has only {len(members)} members")
    timing = config.consensus
    if timing.election_timeout_s < 3 * timing.heartbeat_interval_s:
        refuse(
            "consensus.election_timeout_s",
            f"is {timing.election_timeout_s} s, and must be at least three heartbeats "
            f"({3 * timing.heartbeat_interval_s:g} s), so that one lost heartbeat starts no election",
        )
    if timing.period_s < 10 * timing.election_timeout_s:
        refuse("consensus.period_s", f"must be at least ten election timeouts ({10 * timing.election_timeout_s:g} s)")
    data = config.data
    if data.shard >= data.shards:
        refuse("data.shard", f"is {data.shard}, and must be below data.shards ({data.shards})")
    if data.source == "mnist" and data.path is None:
        refuse("data.path", "is missing; source mnist needs the folder that holds MNIST/raw")
    ports = {"mesh_port": config.me.mesh_port, "operator.port": config.operator.port}
    if len(set(ports.values())) < len(ports):
        refuse("operator.port", f"is {config.operator.port}, the same as this node's mesh port")
