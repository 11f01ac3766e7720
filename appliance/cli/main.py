"""The command line's root: what an operator types. Imports torch only for the commands that need it."""

import sys

import click

from appliance import __version__
from appliance.cli.check import check
from appliance.cli.demo import demo
from appliance.cli.experiment import experiment
from appliance.cli.init import init
from appliance.cli.member import member
from appliance.cli.model import model
from appliance.cli.pki import pki
from appliance.cli.run import reload, run
from appliance.cli.status import resign, status
from appliance.words.errors import OperatorError


class _PlainErrors(click.Group):
    """Shows an operator's mistake as one sentence on standard error, exit 1; no stack trace."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except OperatorError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=_PlainErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="p2pfl-node")
def main() -> None:
    """Federated learning with no server to lose.

    Several organisations each keep private data and run one node. Raft elects one of them as a transient aggregator;
    when it dies or its period ends, another takes over and nothing is lost.
    """


for command in (init, run, status, check, reload, resign, member, model, demo, experiment, pki):
    main.add_command(command)

if __name__ == "__main__":
    sys.exit(main())
