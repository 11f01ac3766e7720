"""``p2pfl-node member``: who belongs to the cluster, and how that changes while it runs."""

import time
from pathlib import Path

import click
import msgspec

from appliance.cli.options import config_option
from appliance.node.config import load
from appliance.operator_api.client import NodeApi
from appliance.operator_api.views import NewMember, Status
from appliance.words.errors import OperatorError
from appliance.words.ids import NodeName
from appliance.words.settings import Host, Member

CAUGHT_UP_WITHIN_S = 60.0
REMOVED_WITHIN_S = 15.0
POLL_S = 0.2
PORT = click.IntRange(1, 65535)


def _check_host(_: click.Context, __: click.Parameter, host: str) -> str:
    try:
        return msgspec.convert(host, Host)
    except msgspec.ValidationError:
        raise click.BadParameter("must be an IP address or a host's name") from None


@click.group()
def member() -> None:
    """The nodes of the cluster: list, add, remove. Adding and removing is done on the leader."""


@member.command(name="list")
@config_option
def list_(file: Path) -> None:
    """List the nodes, where each is reached, and which don't vote yet."""
    members = NodeApi(load(file).operator).members()
    for name, place in members.voters.items():
        click.echo(_line(name, place, "votes"))
    for name, place in members.learners.items():
        click.echo(_line(name, place, "is catching up"))


def _line(name: NodeName, place: Member, state: str) -> str:
    return f"{name:15} {place.host}  mesh {place.mesh_port}, consensus {place.consensus_port}  {state}"


@member.command()
@config_option
@click.argument("node")
@click.option("--host", required=True, callback=_check_host, help="Where the other nodes reach it.")
@click.option("--mesh-port", type=PORT, default=7000, show_default=True, help="Its TCP port for models and rounds.")
@click.option("--consensus-port", type=PORT, default=7001, show_default=True, help="Its UDP port for consensus.")
def add(file: Path, node: NodeName, host: str, mesh_port: int, consensus_port: int) -> None:
    """Let NODE join, and wait until it votes. Start it before, with cluster.join = true."""
    api = NodeApi(load(file).operator)
    api.add_member(NewMember(node, host, mesh_port, consensus_port))
    click.echo(f"{node} is sent all that is committed; it votes once it has caught up")
    end = time.monotonic() + CAUGHT_UP_WITHIN_S
    while time.monotonic() < end:
        if node in api.members().voters:
            click.echo(f"{node} votes")
            return
        time.sleep(POLL_S)
    raise OperatorError(
        f"{node} does not vote after {CAUGHT_UP_WITHIN_S:.0f} s: {_missing(api.status(), node)}. It will vote as soon "
        f"as it has caught up; or take it back: p2pfl-node member remove {node}"
    )


def _missing(status: Status, node: NodeName) -> str:
    """Say what keeps a node from catching up, as the one that was asked sees it."""
    if status.peers.get(node) == "up":
        return "it answers, and has not caught up yet; see its log"
    mesh = status.network.unreachable.get(node)
    return (
        f"it does not answer{f' (mesh: {mesh})' if mesh else ''}; does it run at this address, with "
        "cluster.join = true and a certificate of this cluster"
    )


@member.command()
@config_option
@click.argument("node")
def remove(file: Path, node: NodeName) -> None:
    """Let NODE leave, and wait until that is committed. It may be the leader itself."""
    api = NodeApi(load(file).operator)
    api.remove_member(node)
    end = time.monotonic() + REMOVED_WITHIN_S
    while time.monotonic() < end:
        members = api.members()
        if node not in {**members.voters, **members.learners}:
            click.echo(f"{node} is no member any more; stop it")
            return
        time.sleep(POLL_S)
    raise OperatorError(
        f"{node} is not removed after {REMOVED_WITHIN_S:.0f} s: no majority has agreed; see p2pfl-node status, "
        "and p2pfl-node member list on the leader"
    )
