"""What the benchmarks with real nodes share: five nodes that train back to back, and who leads them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from appliance.experiment.laboratory import Laboratory
from appliance.experiment.progress import Reporter
from appliance.local.processes import Cluster, NodeProcess
from appliance.local.watch import leader_of_all, until
from appliance.words.settings import Data


@contextmanager
def training_flat_out() -> Iterator[Cluster]:
    """Run five nodes that train on the embedded digits, round after round without rest; default consensus settings."""
    reporter = Reporter(Console(file=sys.stderr))
    with Laboratory.opened(Data(), reporter) as laboratory:
        files = laboratory.new_cluster(laboratory.flat_out())
        with laboratory.running(files) as cluster:
            yield cluster


def trained_leader(cluster: Cluster) -> NodeProcess:
    """Wait until every node follows one leader, has every peer up, and has a model that was trained."""
    return until(lambda: leader_of_all(cluster, version=1), "all nodes up, with a leader and a model")
