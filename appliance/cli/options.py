"""Options that several commands share."""

from pathlib import Path

import click

from appliance.node.config import DEFAULT_PATH

config_option = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=DEFAULT_PATH,
    show_default=True,
    help="The node's configuration.",
)
