"""Where experiments happen: clusters of real node processes on this machine, always ended at the end."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from appliance.experiment.progress import Reporter
from appliance.local.ports import free_base_port
from appliance.local.processes import Cluster
from appliance.local.watch import statuses, until
from appliance.node import template
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.node.config import load
from appliance.words.errors import OperatorError
from appliance.words.settings import Data, Delivery, Rounds, Training

NODES = 5
LOG_LINES_ON_FAILURE = 8
START_WITHIN_S = 120.0
ALL_HELD_OUT = 10**6
"""For ``training.judged_samples``: participants and global model are judged on the same images, on all there are."""
NEVER_S = 86_400.0
PREPARED = "data"


class Laboratory:
    """Makes clusters in a folder of its own that is gone afterwards.

    Attributes:
        data: which images: source and path.
        reporter: what happens is told to it.
    """

    def __init__(self, data: Data, reporter: Reporter, folder: Path) -> None:
        self.data = data
        self.reporter = reporter
        self.folder = folder
        self._made = 0

    @classmethod
    @contextlib.contextmanager
    def opened(cls, data: Data, reporter: Reporter) -> Iterator["Laboratory"]:
        """Yield a laboratory; its folder is removed at the end."""
        with tempfile.TemporaryDirectory(prefix="p2pfl-experiment-", ignore_cleanup_errors=True) as folder:
            yield cls(data, reporter, Path(folder))

    @property
    def is_mnist(self) -> bool:
        """Tell whether the paper's data are used."""
        return self.data.source == "mnist"

    def shards(self, *, first: int, of: int, seed: int) -> Data:
        """Return the data settings by which node i gets shard ``first`` + i."""
        return msgspec.structs.replace(self.data, shard=first, shards=of, seed=seed)

    def flat_out(self, digits_epochs: int = 30) -> ClusterPlan:
        """Return a plan of five nodes that train round after round without rest; default consensus settings.

        The digits are few: many passes make a round long enough that a leader is often killed in the midst of it.
        """
        return ClusterPlan(
            nodes=NODES,
            data=self.data,
            rounds=Rounds(interval_s=0.0, deadline_s=60.0),
            training=Training() if self.is_mnist else Training(epochs=digits_epochs, batch_size=32),
            delivery=Delivery(window_s=0.0),
        )

    def new_cluster(self, plan: ClusterPlan) -> list[Path]:
        """Make a cluster on free ports; return its nodes' configuration files."""
        self._made += 1
        plan = msgspec.structs.replace(plan, base_port=free_base_port(plan.nodes), name="experiment")
        return create_cluster(self.folder / f"cluster{self._made}", plan)

    @contextlib.contextmanager
    def running(self, files: list[Path]) -> Iterator[Cluster]:
        """Run the nodes of these files, once all answer; if something promised fails, say what each logged last.

        Raises:
            OperatorError: a node does not start; with what it said.
        """
        with Cluster.running(files) as cluster:
            until(lambda: _all_answer(cluster), "all nodes to answer", START_WITHIN_S)
            try:
                yield cluster
            except OperatorError:
                for node in cluster.nodes:
                    if lines := node.last_lines(LOG_LINES_ON_FAILURE):
                        self.reporter.say(f"the last lines of {node.name}:\n{lines}")
                raise


def _all_answer(cluster: Cluster) -> bool:
    for node in cluster.nodes:
        if not node.is_running:
            raise OperatorError(f"{node.name} does not start: {node.last_lines(1).removeprefix('Error: ')}")
    return len(statuses(cluster.nodes)) == len(cluster.nodes)


def begin_anew(files: list[Path], training: Training) -> None:
    """Let stopped nodes forget all but their prepared data, and train by other settings.

    All of a cluster's nodes at once: one that forgot its votes alone would be a danger to the others.
    """
    for file in files:
        node = msgspec.structs.replace(load(file), training=training)
        file.write_text(template.render(node), encoding="utf-8")
        for entry in node.state.iterdir():
            if entry.is_dir() and entry.name != PREPARED:
                shutil.rmtree(entry)
            elif entry.is_file():
                entry.unlink()
