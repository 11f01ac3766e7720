"""``p2pfl-node status`` and ``resign``: ask a running node."""

import time
from pathlib import Path

import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from appliance.cli.options import config_option
from appliance.node.config import load
from appliance.operator_api.client import NodeApi
from appliance.operator_api.views import Status
from appliance.words.errors import OperatorError

REFRESH_S = 1.0
RESIGN_WITHIN_S = 15.0
SECONDS_AN_HOUR, SECONDS_A_MINUTE = 3600, 60


@click.command(short_help="Show what the node does and waits for.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the JSON of /v1/status.")
@click.option("--watch", is_flag=True, help="Show it again each second until Ctrl-C.")
def status(file: Path, *, as_json: bool, watch: bool) -> None:
    """Show what the node does, and what it waits for. Exit 0 if it follows or leads, 3 if there is no leader."""
    api = NodeApi(load(file).operator)
    if as_json:
        content = api.get("/v1/status")
        click.echo(content)
        raise SystemExit(0 if msgspec.json.decode(content, type=Status).ready else 3)
    console = Console(highlight=False)
    if not watch:
        state = api.status()
        console.print(render(state))
        raise SystemExit(0 if state.ready else 3)
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(_render_or_say(api), refresh=True)
                time.sleep(REFRESH_S)
        except KeyboardInterrupt:
            return


def _render_or_say(api: NodeApi) -> RenderableType:
    try:
        return render(api.status())
    except OperatorError as error:
        return Text(str(error), style="red")


def render(state: Status) -> RenderableType:
    """Return a status for a terminal of 80 columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("node", Text(state.node, style="bold"))
    table.add_row("state", Text(state.summary, style="green" if state.ready else "yellow"))
    if state.model is None:
        table.add_row("model", "none is committed yet")
    else:
        model = state.model
        table.add_row("model", f"version {model.version}, accuracy {model.accuracy:.4f}, loss {model.loss:.4f}")
        table.add_row("", model.digest.removeprefix("sha256:"))
        if model.rolled_back_to is not None:
            table.add_row("", f"rolled back to version {model.rolled_back_to}")
        if model.withheld:
            table.add_row("", Text(f"the last round's model is not published: {model.withheld}", style="yellow"))
    up = [peer for peer, condition in state.peers.items() if condition == "up"]
    down = [peer for peer in state.peers if peer not in up]
    table.add_row("peers", Text(", ".join(up) + " up" if up else "none up"))
    if down:
        table.add_row("", Text(", ".join(down) + " down", style="red"))
    for peer, reason in state.network.unreachable.items():
        table.add_row("", Text(f"{peer} can't be reached: {reason}", style="red"))
    if state.period_left_s is not None:
        table.add_row("period", f"{duration(state.period_left_s)} left")
    for wait in state.waiting:
        bound = "" if wait.until_s is None else f", {duration(wait.until_s)} left"
        # As text: a reason may quote what a peer or the system said, and that is no markup.
        table.add_row(wait.who, Text(f"{wait.reason} (for {duration(wait.since_s)}{bound})"))
    table.add_row("certificate", f"good for {state.certificate.expires_in_days:.0f} days")
    faults = [Text(fault, style="bold red") for fault in state.faults]
    return Group(table, *faults)


def duration(seconds: float) -> str:
    """Return such as "40 s", "12 min" or "3 h 20 min"."""
    whole = round(seconds)
    if whole < 2 * SECONDS_A_MINUTE:
        return f"{whole} s"
    if whole < 2 * SECONDS_AN_HOUR:
        return f"{whole // SECONDS_A_MINUTE} min"
    return f"{whole // SECONDS_AN_HOUR} h {whole % SECONDS_AN_HOUR // SECONDS_A_MINUTE} min"


@click.command(short_help="Ask the leader to hand over now.")
@config_option
def resign(file: Path) -> None:
    """Ask the leader to hand over now, and wait until another node leads."""
    api = NodeApi(load(file).operator)
    before = api.status()
    api.resign()
    end = time.monotonic() + RESIGN_WITHIN_S
    while time.monotonic() < end:
        now = api.status()
        if now.leader is not None and now.term > before.term:
            click.echo(f"{before.leader} handed over to {now.leader} (term {now.term})")
            return
        time.sleep(REFRESH_S / 10)
    raise OperatorError(f"no other leader within {RESIGN_WITHIN_S:.0f} s; see p2pfl-node status")
