"""``p2pfl-node model``: the committed global models: list, export, compare, and go back to one."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
import safetensors.numpy
from numpy.typing import NDArray

from appliance.aggregation.difference import Distance, difference
from appliance.aggregation.state import RESERVED
from appliance.cli.options import config_option
from appliance.node.config import load
from appliance.operator_api.client import NodeApi
from appliance.operator_api.views import ListedModel
from appliance.storage.files import write_atomically
from appliance.words.errors import OperatorError
from appliance.words.ids import Version, digest_of
from appliance.words.models import GlobalModel

COMMITTED_WITHIN_S = 60.0
POLL_S = 0.2
VERSION = click.IntRange(min=0, max=2**62 - 1)
NOTES = "p2pfl-node.json"
"""Of an exported model: beside its file, under that one's name, and in a .pt2 archive."""


@click.group()
def model() -> None:
    """The committed global models: list, export, compare, and go back to one, which is done on the leader."""


@model.command(name="list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the JSON of /v1/models.")
def list_(file: Path, *, as_json: bool) -> None:
    """List the lineage, oldest first, and whose bytes are on this node."""
    api = NodeApi(load(file).operator)
    if as_json:
        click.echo(api.get("/v1/models"))
        return
    click.echo("version  accuracy    loss  updates  when (UTC)           digest        bytes")
    for entry in api.models():
        click.echo(_line(entry))


def _line(entry: ListedModel) -> str:
    when = datetime.fromtimestamp(entry.committed_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    note = "" if entry.rolled_back_to is None else f"  rolled back to version {entry.rolled_back_to}"
    note += "  no new model: the round's was withheld" if entry.withheld else ""
    return (
        f"{entry.version:7}  {entry.accuracy:8.4f}  {entry.loss:6.4f}  {entry.updates:3}/{entry.expected:<3}  "
        f"{when}  {entry.digest.removeprefix('sha256:')[:12]}  {'here' if entry.here else '-':4}{note}"
    )


@model.command()
@config_option
@click.argument("version", type=VERSION)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file; its notes lie in FILE.json.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["safetensors", "torch"]),
    default="safetensors",
    show_default=True,
    help="The bytes as committed, or a torch.export program (.pt2) for serving.",
)
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def export(file: Path, version: Version, out: Path, form: str, *, force: bool) -> None:
    """Write the model of VERSION to a file, checked, with its entry of the lineage beside it."""
    config, notes_file = load(file), out.with_name(out.name + ".json")
    for path in (out, notes_file):
        if path.exists() and not force:
            raise OperatorError(f"{path} is there already; give --force to overwrite it")
    api = NodeApi(config.operator)
    entry = _entry(api, version)
    content = _bytes_of(api, entry)
    notes = _notes(entry, config.cluster.name, form)
    if form == "torch":
        from appliance.training import tasks  # noqa: PLC0415 - loads PyTorch, a second: the other commands don't
        from appliance.training.serving import program_of  # noqa: PLC0415 - the same

        task = tasks.load(config.task, config.data, config.state / "data")
        content = program_of(task, content, {NOTES: notes.decode()})
    for path, written in ((out, content), (notes_file, notes + b"\n")):
        write_atomically(path, written, 0o644, may_replace=force)
        if path.read_bytes() != written:
            raise OperatorError(f"{path} does not hold what was written to it; check the disk")
    click.echo(f"{out}: version {version}, {form}, {len(content)} bytes; {notes_file}: its entry of the lineage")


def _notes(entry: ListedModel, cluster: str, form: str) -> bytes:
    lineage = {name: getattr(entry, name) for name in GlobalModel.__struct_fields__}
    notes = {
        "cluster": cluster,
        "version": entry.version,
        "digest": entry.digest,
        "format": form,
        "lineage": lineage,
    }
    return msgspec.json.format(msgspec.json.encode(notes), indent=2)


@model.command()
@config_option
@click.argument("first", metavar="A", type=VERSION)
@click.argument("second", metavar="B", type=VERSION)
def diff(file: Path, first: Version, second: Version) -> None:
    """Compare the models of versions A and B: how far each tensor moved, and how good both are."""
    api = NodeApi(load(file).operator)
    entries = [_entry(api, version) for version in (first, second)]
    found = difference(*(_network(_bytes_of(api, entry)) for entry in entries))
    width = max(len(name) for name in (*found.tensors, "all"))
    click.echo(f"{'tensor':{width}}  {'L2 of B - A':>12}  {'relative':>9}  {'largest':>9}")
    for name, distance in {**found.tensors, "all": found.whole}.items():
        click.echo(f"{name:{width}}  {_numbers(distance)}")
    click.echo(f"cosine of A and B: {found.cosine:.6f}")
    for entry in entries:
        click.echo(f"version {entry.version}: accuracy {entry.accuracy:.4f}, loss {entry.loss:.4f}")


def _network(content: bytes) -> Mapping[str, NDArray[Any]]:
    """Return the network's tensors: the state of a strategy says nothing about a model, and is not in each."""
    tensors = safetensors.numpy.load(content)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(RESERVED)}


def _numbers(distance: Distance) -> str:
    return f"{distance.norm:12.6g}  {distance.relative:9.3g}  {distance.largest:9.3g}"


@model.command()
@config_option
@click.argument("version", type=VERSION)
def rollback(file: Path, version: Version) -> None:
    """Go back to the model of VERSION, and wait until that is committed. Rounds go on from it."""
    api = NodeApi(load(file).operator)
    newest = max((entry.version for entry in api.models()), default=-1)
    api.roll_back(version)
    click.echo(f"a majority is asked to hold the model of version {version}")
    end = time.monotonic() + COMMITTED_WITHIN_S
    while time.monotonic() < end:
        for entry in api.models():
            if entry.version > newest and entry.rolled_back_to == version:
                click.echo(f"version {entry.version} has the bytes of version {version}; the next round is on it")
                return
        status = api.status()
        if status.leader != status.node:
            break
        time.sleep(POLL_S)
    raise OperatorError(
        f"the rollback to version {version} is not committed: no majority holds the model, or the leader has changed; "
        "see p2pfl-node model list, and ask the leader again"
    )


def _entry(api: NodeApi, version: Version) -> ListedModel:
    found = [entry for entry in api.models() if entry.version == version]
    if not found:
        raise OperatorError(f"version {version} is not in the lineage; see p2pfl-node model list")
    return found[0]


def _bytes_of(api: NodeApi, entry: ListedModel) -> bytes:
    content = api.model(entry.version)
    if digest_of(content) != entry.digest:
        raise OperatorError(f"what the node gave is not the model of version {entry.version}; see its log")
    return content
