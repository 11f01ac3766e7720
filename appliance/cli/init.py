"""``p2pfl-node init``: a ready cluster in a folder."""

from pathlib import Path
from typing import Literal, cast

import click

from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.words.settings import Data, Task


class DataSource(click.ParamType[tuple[str, Path | None]]):
    """``digits``, ``mnist:`` and a folder, or ``csv:`` and a file."""

    name = "digits|mnist:PATH|csv:FILE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path | None]:
        source, _, path = str(value).partition(":")
        if (source, path) == ("digits", ""):
            return "digits", None
        if source in {"mnist", "csv"} and path:
            return source, Path(path)
        return self.fail(f"{value!r} is none of digits, mnist:PATH (with MNIST/raw in it), csv:FILE", param, ctx)


class ImageSource(DataSource):
    """What the paper's network learns from: ``digits``, or ``mnist:`` and a folder."""

    name = "digits|mnist:PATH"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Path | None]:
        source, path = super().convert(value, param, ctx)
        if source == "csv":
            self.fail(f"{value!r} is neither digits nor mnist:PATH (with MNIST/raw in it)", param, ctx)
        return source, path


@click.command(short_help="Make a ready cluster: keys, configuration, data.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--nodes", type=click.IntRange(min=1), default=5, show_default=True, help="How many nodes.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=["127.0.0.1"],
    show_default=True,
    help="Address of all nodes; or given once for each node, in order.",
)
@click.option(
    "--base-port",
    type=click.IntRange(1, 65535),
    default=7000,
    show_default=True,
    help="Node i gets mesh P+10*i, consensus P+10*i+1, operator P+10*i+2.",
)
@click.option("--data", type=DataSource(), default="digits", show_default=True, help="Where the nodes' data is from.")
@click.option(
    "--alpha",
    type=click.FloatRange(min=0, min_open=True),
    help="Skew the labels of the shards by Dirichlet(alpha); IID without it.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the split into shards.")
@click.option("--task", default="ann", show_default=True, help="What is learned: ann, cnn, tabular, or MODULE:FACTORY.")
@click.option("--task-folder", type=click.Path(path_type=Path), help="Where the task's module lies.")
@click.option("--cluster", "name", default="p2pfl", show_default=True, help="The cluster's name.")
def init(
    *,
    folder: Path,
    nodes: int,
    hosts: tuple[str, ...],
    base_port: int,
    data: tuple[str, Path | None],
    alpha: float | None,
    seed: int,
    task: str,
    task_folder: Path | None,
    name: str,
) -> None:
    """Make a ready cluster in DIR: authority, and for each node its configuration, keys and share of the data."""
    plan = ClusterPlan(
        nodes=nodes,
        hosts=hosts,
        base_port=base_port,
        name=name,
        data=Data(source=cast(Literal["digits", "mnist", "csv"], data[0]), path=data[1], alpha=alpha, seed=seed),
        task=Task(name=task, folder=task_folder.absolute() if task_folder else None),
    )
    files = create_cluster(folder, plan)
    click.echo(
        f"{folder}: the cluster {name}, {nodes} node{'s' if nodes > 1 else ''}\n"
        f"Start each node, here or with its folder copied to its own machine:\n"
        f"  p2pfl-node run --config {files[0]}\n"
        f"See what it does:\n"
        f"  p2pfl-node status --config {files[0]} --watch\n"
        f"Keep {folder / 'ca' / 'ca.key'} off the nodes' machines: it makes new members."
    )
