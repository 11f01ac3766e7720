"""``p2pfl-node demo``: five real nodes on this machine, and a leader killed in mid-round."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

from appliance.cli.init import ImageSource
from appliance.demo.display import ConsoleDisplay, table_one, table_two
from appliance.demo.story import Story
from appliance.local import paper
from appliance.local.interruption import interruptible
from appliance.local.ports import free_base_port
from appliance.local.processes import Cluster
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.words.errors import OperatorError
from appliance.words.settings import Data, Delivery, Rounds, Training

SMALLEST = 3
LOG_LINES_ON_FAILURE = 8


@click.command(short_help="Kill the leader of a real cluster, and lose nothing.")
@click.option("--nodes", type=click.IntRange(min=SMALLEST), default=5, show_default=True, help="How many nodes.")
@click.option("--rounds", type=click.IntRange(min=5), default=10, show_default=True, help="How many rounds, at least.")
@click.option("--data", type=ImageSource(), default="digits", show_default=True, help="Where the nodes' data is from.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep the cluster and its logs in this new folder.")
def demo(*, nodes: int, rounds: int, data: tuple[str, Path | None], keep: Path | None) -> None:
    """Start a cluster here, kill its leader with -9 in mid-round, and show that nothing is lost.

    Real processes on loopback, with real TLS, consensus and training. Exit 0 only if all of it happened.
    """
    console = Console()
    is_mnist = data[0] == "mnist"
    # The digits are few: many passes make a round long enough to watch, and to be killed in the middle of.
    training = Training() if is_mnist else Training(epochs=30, batch_size=32)
    source = Data(source="mnist" if is_mnist else "digits", path=data[1])
    with _folder(keep) as folder, interruptible():
        plan = ClusterPlan(
            nodes=nodes,
            base_port=free_base_port(nodes),
            name="demo",
            data=source,
            rounds=Rounds(interval_s=0.0, deadline_s=60.0),
            training=training,
            delivery=Delivery(window_s=0.2),
        )
        files = create_cluster(folder / "cluster", plan)
        with Cluster.running(files) as cluster:
            _perform(console, cluster, rounds, is_mnist=is_mnist)


def _perform(console: Console, cluster: Cluster, rounds: int, *, is_mnist: bool) -> None:
    started = time.monotonic()
    with ConsoleDisplay(console) as display:
        story = Story(cluster, rounds, display)
        display.say(f"{len(cluster.nodes)} node processes are starting")
        try:
            story.perform()
        except OperatorError:
            for node in cluster.nodes:
                console.print(f"--- the last lines of {node.name}", highlight=False)
                console.print(node.last_lines(LOG_LINES_ON_FAILURE), highlight=False, soft_wrap=True, markup=False)
            raise
        finally:
            story.close()
    round_ = story.table_round()
    if round_ is None:
        raise OperatorError("no round was seen with every node's update in it")
    by_round = {model.round: model for model in story.lineage}
    console.print()
    console.print(table_one(story.lineage[0], story.updates[round_], by_round[round_], is_mnist=is_mnist))
    console.print()
    console.print(table_two(story.timeline.rows()))
    console.print(
        f"\n{len(story.lineage) - 1} rounds in {time.monotonic() - started:.0f} s. The leader was killed in round "
        f"{story.killed_in_round}: new leader after {story.election_s:.2f} s "
        f"(paper: {paper.NEW_LEADER_S:.0f} s), that round committed after {story.recovery_s:.2f} s, no finished "
        "training repeated, one lineage on all nodes.",
        highlight=False,
    )


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="p2pfl-demo-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    else:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
