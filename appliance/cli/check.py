"""``p2pfl-node check``: would the node start?"""

import os
from pathlib import Path

import click

from appliance.cli.options import config_option
from appliance.datagrams import raftos_shim
from appliance.node.config import load
from appliance.pki.identity import NodeIdentity
from appliance.words.errors import ConfigurationError, StateError
from appliance.words.settings import Aggregation


@click.command(short_help="Check the configuration and its files.")
@config_option
def check(file: Path) -> None:
    """Check the configuration and every file that it names, without starting the node."""
    config = load(file)
    identity = NodeIdentity.load(config.identity, config.node)
    if config.consensus.engine == "raftos":
        raftos_shim.require()
        raftos_shim.read_secret(config.consensus)
    # os.path.exists is also False for what can't be looked up, where Path.exists would raise.
    nearest = next(folder for folder in (config.state, *config.state.parents) if os.path.exists(folder))
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise StateError(f"{nearest} can't be written; the node keeps its state in {config.state}")
    path = config.data.path
    if path is not None and config.data.source == "mnist" and not path.is_dir():
        raise ConfigurationError(f"{file}: data.path: {path} is not a folder")
    if path is not None and not path.exists():
        raise ConfigurationError(f"{file}: data.path: there is no {path}")
    if config.training.initial is not None and not config.training.initial.is_file():
        raise ConfigurationError(f"{file}: training.initial: {config.training.initial} is not a file")
    if ":" in config.task.name:
        from appliance.training import tasks  # noqa: PLC0415 - loads PyTorch, a second: only for who brings a task

        tasks.find(config.task)
    click.echo(
        f"{file}: {config.node} of {config.cluster.name} can start; {len(config.cluster.members)} members, "
        f"quorum {config.quorum}, {_strategy(config.aggregation)}, "
        f"certificate good until {identity.expires_at:%Y-%m-%d}"
    )


def _strategy(settings: Aggregation) -> str:
    return f"strategy {settings.strategy} (bears {settings.bears or 'no'} attacker{'s' if settings.bears > 1 else ''})"
