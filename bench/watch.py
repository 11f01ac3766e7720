"""What the benchmarks with real nodes share: five nodes that train back to back, waiting, and watching for harm."""

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from appliance.local.ports import free_base_port
from appliance.local.processes import Cluster, NodeProcess
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.operator_api.client import NodeApi
from appliance.operator_api.views import Status
from appliance.words.errors import OperatorError
from appliance.words.ids import Digest, NodeName, Term
from appliance.words.settings import Delivery, Rounds, Training

T = TypeVar("T")

NODES = 5
POLL_S = 0.02
WITHIN_S = 60.0


@contextmanager
def training_flat_out() -> Iterator[Cluster]:
    """Run five nodes that train on the embedded digits, round after round without rest; default consensus settings."""
    with tempfile.TemporaryDirectory() as folder:
        plan = ClusterPlan(
            nodes=NODES,
            base_port=free_base_port(NODES),
            rounds=Rounds(interval_s=0.0, deadline_s=60.0),
            training=Training(epochs=30, batch_size=32),
            delivery=Delivery(window_s=0.0),
        )
        with Cluster.running(create_cluster(Path(folder) / "cluster", plan)) as cluster:
            yield cluster


class Safety:
    """What must never be seen, looked for in what nodes tell: forked lineages, and two leaders of one term.

    Nodes forget the elections that they saw when they are killed: look before.

    Attributes:
        problems: a sentence for each thing that must not be.
        leaders: who is said to have led each term.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.leaders: dict[Term, set[NodeName]] = defaultdict(set)
        self._longest: list[Digest] = []

    def look(self, nodes: Iterable[NodeProcess]) -> None:
        """Look at every node that answers."""
        for node in nodes:
            with suppress(OperatorError):
                self._look_at_elections(node.name, NodeApi(node.config.operator).get("/v1/elections"))
                self._look_at_lineage(node.name, [model.digest for model in node.lineage()])

    def _look_at_elections(self, name: NodeName, content: bytes) -> None:
        for election in json.loads(content):
            leaders = self.leaders[election["term"]]
            if election["to"] == "leader" and election["node"] not in leaders:
                leaders.add(election["node"])
                if len(leaders) > 1:
                    self.problems.append(f"term {election['term']} has the leaders {sorted(leaders)}, says {name}")

    def _look_at_lineage(self, name: NodeName, lineage: list[Digest]) -> None:
        if lineage[: len(self._longest)] != self._longest[: len(lineage)]:
            self.problems.append(f"the lineage of {name} forks from another's: {lineage} and {self._longest}")
        self._longest = max(self._longest, lineage, key=len)


def statuses(nodes: Iterable[NodeProcess]) -> list[Status]:
    """Return the status of every node that answers."""
    return [status for status in (node.status() for node in nodes) if status is not None]


def leader_of_all(cluster: Cluster) -> NodeProcess | None:
    """Return the leader once every node follows it, has every peer up, and has a model that was trained."""
    seen = statuses(cluster.nodes)
    leaders = {status.leader for status in seen}
    complete = len(seen) == NODES and all("down" not in status.peers.values() for status in seen)
    leader = leaders.pop() if len(leaders) == 1 else None
    trained = all(status.model is not None and status.model.version > 0 for status in seen)
    return cluster[leader] if leader is not None and complete and trained else None


def until(condition: Callable[[], T | None]) -> T:
    """Poll until the condition holds; return what it found."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(POLL_S)
    raise SystemExit(f"a condition did not come within {WITHIN_S:.0f} s")
