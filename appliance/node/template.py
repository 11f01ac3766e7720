"""A configuration as a TOML file for people: what an operator must see or may want to change, and why."""

from pathlib import Path

from msgspec import Struct

from appliance.node.config import Config
from appliance.words.settings import (
    Aggregation,
    Consensus,
    Delivery,
    Envelopes,
    Logging,
    Models,
    Rounds,
    Task,
    Training,
)

Value = str | int | float | bool | Path | tuple[str, ...] | list["Value"] | dict[str, "Value"]

_HEAD = """\
# A node of p2pfl-node. Relative paths are relative to this file. Unknown keys are errors.
# Check it with: p2pfl-node check --config node.toml
"""
_COMMENTS = {
    "cluster": "The whole cluster, this node included; the same on every node.",
    "identity": "The private key must be readable by its owner only (mode 0600).",
    "task": "What is learned; the same on every node.",
    "data": "This node's part of the training data. All but the shard is the same on every node.",
    "rounds": "A round opens every interval_s, and closes when all live nodes have delivered, or at deadline_s.",
    "aggregation": "What turns a round's updates into a model; the same on every node.",
    "models": "Which committed models stay on disk: p2pfl-node model can list, export and go back to them.",
    "consensus": "One node leads for period_s, then hands over.",
    "operator": "Status, metrics and the model, for this machine only.",
}
_SHOWN = {"rounds": ("interval_s", "deadline_s"), "consensus": ("period_s",)}
"""Keys that are written even if they are at their defaults."""


def render(config: Config) -> str:
    """Return the file; reading it gives the same configuration."""
    members = config.cluster.members
    parts = [
        _HEAD,
        _lines({"node": config.node, "state": config.state}),
        _section("cluster", {"name": config.cluster.name, **({"join": True} if config.cluster.join else {})}),
        "".join(f"\n[cluster.members.{_key(name)}]\n{_lines(_fields(member))}" for name, member in members.items()),
        _section("identity", _fields(config.identity)),
        _tuning("task", config.task, Task()),
        _section("data", _fields(config.data)),
        _tuning("rounds", config.rounds, Rounds()),
        _tuning("aggregation", config.aggregation, Aggregation()),
        _tuning("models", config.models, Models()),
        _tuning("consensus", config.consensus, Consensus()),
        _tuning("training", config.training, Training()),
        _tuning("envelopes", config.envelopes, Envelopes()),
        _tuning("delivery", config.delivery, Delivery()),
        _section("operator", _fields(config.operator)),
        _tuning("logging", config.logging, Logging()),
    ]
    return "".join(parts)


def _tuning(name: str, section: Struct, defaults: Struct) -> str:
    """Render the keys that are always shown or not at their defaults; nothing if there are none."""
    shown = _SHOWN.get(name, ())
    fields = {key: value for key, value in _fields(section).items() if key in shown or value != getattr(defaults, key)}
    return _section(name, fields) if fields else ""


def _section(name: str, fields: dict[str, Value]) -> str:
    comment = f"# {_COMMENTS[name]}\n" if name in _COMMENTS else ""
    return f"\n{comment}[{name}]\n{_lines(fields)}"


def _fields(section: Struct) -> dict[str, Value]:
    """Return a section's keys; one without a value is left out, as TOML has no null."""
    values = {key: getattr(section, key) for key in section.__struct_fields__}
    return {key: value for key, value in values.items() if value is not None}


def _lines(fields: dict[str, Value]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in fields.items())


def _key(name: str) -> str:
    """Quote a node's name that has a dot, which TOML would take for a table within a table."""
    return _value(name) if "." in name else name


def _value(value: Value) -> str:
    if isinstance(value, str | Path):
        escaped = "".join(
            char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in str(value)
        )
        return f'"{escaped}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_value(key)} = {_value(inner)}' for key, inner in value.items())}}}"
    return str(value).lower() if isinstance(value, bool) else repr(value)
