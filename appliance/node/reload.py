"""Configuration that changes under a running node: what can, and what waits for a restart (pure)."""

from dataclasses import dataclass

import msgspec

from appliance.node.config import Config

LIVE: dict[str, frozenset[str]] = {
    "logging": frozenset({"level"}),
    "rounds": frozenset({"quorum", "deadline_s", "interval_s"}),
    "training": frozenset({"learning_rate", "epochs", "batch_size", "proximal"}),
}
"""The keys that take effect without a restart, by section: from the next line, round and training on."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a configuration file that was read again changes.

    Attributes:
        config: what is in force from now on: the old one, with the new one's live keys.
        applied: such as "rounds.interval_s: 60.0 -> 30.0".
        at_restart: the other keys that differ, which take effect when the node starts again.
    """

    config: Config
    applied: list[str]
    at_restart: list[str]


def reloaded(old: Config, new: Config) -> Reloaded:
    """Compare the configuration in force with the file's, key by key."""
    applied, at_restart, sections = [], [], {}
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        if name not in LIVE:
            at_restart += _differing(name, before, after)
            continue
        changed = [key for key in before.__struct_fields__ if getattr(before, key) != getattr(after, key)]
        live = [key for key in changed if key in LIVE[name]]
        sections[name] = msgspec.structs.replace(before, **{key: getattr(after, key) for key in live})
        applied += [f"{name}.{key}: {_text(getattr(before, key))} -> {_text(getattr(after, key))}" for key in live]
        at_restart += [f"{name}.{key}" for key in changed if key not in LIVE[name]]
    return Reloaded(msgspec.structs.replace(old, **sections), applied, at_restart)


def _differing(name: str, before: object, after: object) -> list[str]:
    if not isinstance(before, msgspec.Struct):
        return [name]
    return [f"{name}.{key}" for key in before.__struct_fields__ if getattr(before, key) != getattr(after, key)]


def _text(value: object) -> str:
    return "the default" if value is None else str(value)
