"""The configuration of a node: one frozen typed object, read once from TOML (design.md section 5)."""

import difflib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_origin

import msgspec

from appliance.consensus.membership import check_size
from appliance.datagrams.places import membership_of
from appliance.words.errors import ConfigurationError, OperatorError
from appliance.words.hours import Hours
from appliance.words.ids import NodeName
from appliance.words.settings import (
    Aggregation,
    Cluster,
    Consensus,
    Data,
    Delivery,
    Envelopes,
    Identity,
    Logging,
    Member,
    Models,
    Operator,
    Rounds,
    Section,
    Task,
    Training,
)

DEFAULT_PATH = Path("/etc/p2pfl-node/node.toml")

LARGEST = 1e9
"""Of seconds and other numbers: thirty years, and what the messages of a round can carry."""


class Config(Section, frozen=True):
    """The whole file. Relative paths in it are relative to the file's folder."""

    node: NodeName
    cluster: Cluster
    identity: Identity
    state: Path = Path("/var/lib/p2pfl-node")
    consensus: Consensus = Consensus()
    rounds: Rounds = Rounds()
    aggregation: Aggregation = Aggregation()
    task: Task = msgspec.field(default_factory=Task)
    models: Models = Models()
    training: Training = Training()
    data: Data = Data()
    envelopes: Envelopes = Envelopes()
    delivery: Delivery = Delivery()
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
        """Updates needed to close a round at its deadline: never fewer than the strategy needs."""
        return max(self.rounds.quorum or len(self.cluster.members) // 2 + 1, self.aggregation.least_updates)


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
    content = _parsed(text, path)
    try:
        config = msgspec.convert(content, Config, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: {_describe(error, content)}") from None
    config = _resolve(config, path.parent.resolve())
    _check(config, path)
    return config


def _parsed(text: str, path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: is not valid TOML: hundreds of lists or tables in one another") from None
    except ValueError:
        # The one that is no TOMLDecodeError: Python turns no more than 4,300 digits into a number.
        raise ConfigurationError(f"{path}: is not valid TOML: a number of thousands of digits") from None


def _decode_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    # What holds more of its kind is not quoted: dotted keys make it as deep as the file is long.
    got = "`object`" if isinstance(value, dict) else "`array`" if isinstance(value, list) else repr(value)
    raise ValueError(f"Expected a path, got {got}")


_PROBLEM = re.compile(r"(?P<problem>.*?)(?: - at (?:`key` in )?`\$\.?(?P<place>.*)`)?", re.DOTALL)
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text in quotes",
    "bool": "true or false",
    "object": "a table",
    "array": "a list",
    "null": "nothing",
}


def _describe(error: msgspec.ValidationError, content: dict[str, object]) -> str:
    """Turn msgspec's "Expected ... - at `$.a.b`" into "a.b: must be ...": the key, and what is allowed."""
    match = _PROBLEM.fullmatch(str(error))
    problem, place = (match["problem"], match["place"] or "") if match else (str(error), "")
    if "[...]" in place:
        place = place.replace("[...]", f".{_wrong_member(content)}")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", problem):
        return f"{_join(place, unknown[1])}: is no key here; {_allowed(place, unknown[1])}"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", problem):
        return f"{_join(place, missing[1])}: is missing"
    if re.match(r"Invalid enum value", problem):
        options = ", ".join(msgspec.json.encode(option).decode() for option in get_args(_type_at(place)))
        return f"{place}: must be one of {options}"
    if "matching regex '^[a-z0-9][a-z0-9.-]" in problem:
        return f"{place}: a node's name is 1 to 63 small letters, digits, dots and hyphens, as in a host name"
    if "matching regex '^[A-Za-z0-9._:%-]" in problem:
        return f"{place}: must be an IP address or a host's name"
    problem = re.sub(r"`([a-z]+)( \| null)?`", lambda kind: _KINDS.get(kind[1], kind[0]), problem)
    return f"{place}: {problem.replace('Expected', 'must be').replace(', got', ', and is')}"


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _wrong_member(content: dict[str, object]) -> str:
    """Name the member that is wrong, where msgspec only says that one is."""
    members = content["cluster"]["members"]  # type: ignore[index]  # it got that far
    for name, member in members.items():
        try:
            msgspec.convert(member, Member)
        except msgspec.ValidationError:
            return str(name)
    raise AssertionError("each member is right by itself")


def _allowed(place: str, key: str) -> str:
    section = _type_at(place)
    keys = [field.name for field in msgspec.structs.fields(section)]
    near = difflib.get_close_matches(key, keys, n=1)
    return f"did you mean {near[0]}?" if near else f"allowed are {', '.join(keys)}"


def _type_at(place: str) -> type:
    """Return the type of what stands at a dotted place of the file."""
    found: type = Config
    for part in place.split(".") if place else ():
        if get_origin(found) is dict:
            found = get_args(found)[1]
        else:
            found = next(field.type for field in msgspec.structs.fields(found) if field.name == part)
    return found


def _resolve(config: Config, folder: Path) -> Config:
    identity = msgspec.structs.replace(
        config.identity,
        **{name: folder / getattr(config.identity, name) for name in config.identity.__struct_fields__},
    )
    data, task = config.data, config.task
    if data.path is not None:
        data = msgspec.structs.replace(data, path=folder / data.path)
    if task.folder is not None:
        task = msgspec.structs.replace(task, folder=folder / task.folder)
    consensus = config.consensus
    if consensus.raftos_secret is not None:
        consensus = msgspec.structs.replace(consensus, raftos_secret=folder / consensus.raftos_secret)
    training = config.training
    if training.initial is not None:
        training = msgspec.structs.replace(training, initial=folder / training.initial)
    config = msgspec.structs.replace(config, consensus=consensus, training=training)
    return msgspec.structs.replace(config, state=folder / config.state, identity=identity, data=data, task=task)


def _check(config: Config, path: Path) -> None:
    """Refuse what is well-typed and still can't work."""
    members = config.cluster.members

    def refuse(key: str, problem: str) -> None:
        raise ConfigurationError(f"{path}: {key}: {problem}")

    if config.node not in members:
        refuse("node", f"{config.node} is not among cluster.members ({', '.join(sorted(members))})")
    _check_quorum(config, refuse)
    aggregation = config.aggregation
    for key in aggregation.unused:
        refuse(f"aggregation.{key}", f"has no effect on {aggregation.strategy}: remove it, or change the strategy")
    if config.cluster.join and len(members) == 1:
        refuse("cluster.join", "is true, and cluster.members names no other node: list those of the running cluster")
    if config.cluster.join and config.consensus.engine == "raftos":
        refuse("cluster.join", "is true, and the engine raftos knows no nodes that join")
    if config.consensus.engine == "raftos" and config.consensus.raftos_secret is None:
        refuse("consensus.raftos_secret", "is missing: raftos needs 32 random bytes in a file, the same everywhere")
    _check_numbers(config, refuse)
    _check_addresses(config.cluster, refuse)
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
    if data.source == "csv" and data.path is None:
        refuse("data.path", "is missing; source csv needs the file")
    try:
        Hours(config.training.hours)
    except ValueError as error:
        refuse("training.hours", str(error))
    ports = {"mesh_port": config.me.mesh_port, "operator.port": config.operator.port}
    if len(set(ports.values())) < len(ports):
        refuse("operator.port", f"is {config.operator.port}, the same as this node's mesh port")


def _check_quorum(config: Config, refuse: Callable[[str, str], None]) -> None:
    """Refuse what would leave a round without the updates that it needs, or a strategy without those it needs."""
    members, quorum, aggregation = len(config.cluster.members), config.rounds.quorum, config.aggregation
    least = aggregation.least_updates
    if quorum is not None and quorum > members:
        refuse("rounds.quorum", f"is {quorum}, and the cluster has only {members} members")
    needs = f"{aggregation.strategy} needs {least} updates to bear aggregation.attackers ({aggregation.attackers})"
    if least > members:
        refuse("aggregation.strategy", f"{needs}, and the cluster has only {members} members")
    if quorum is not None and quorum < least:
        refuse("rounds.quorum", f"is {quorum}, and {needs}")


def _check_numbers(config: Config, refuse: Callable[[str, str], None]) -> None:
    """Refuse numbers that a clock or a message can't hold; TOML knows ``inf``."""
    for name in config.__struct_fields__:
        section = getattr(config, name)
        for key in getattr(section, "__struct_fields__", ()):
            value = getattr(section, key)
            if isinstance(value, float) and not value <= LARGEST:
                refuse(f"{name}.{key}", f"is {value:g}, and must be at most {LARGEST:g}")


def _check_addresses(cluster: Cluster, refuse: Callable[[str, str], None]) -> None:
    """Refuse two members in one place: most often a copied table; and more than consensus can write down."""
    members = cluster.members
    try:
        check_size(membership_of(cluster))
    except OperatorError as error:
        refuse("cluster.members", str(error))
    for port in ("mesh_port", "consensus_port"):
        taken: dict[tuple[str, int], NodeName] = {}
        for name, member in members.items():
            other = taken.setdefault((member.host, getattr(member, port)), name)
            if other != name:
                refuse(f"cluster.members.{name}.{port}", f"{member.host}:{getattr(member, port)} is {other}'s already")
