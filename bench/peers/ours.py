"""Ours: five real node processes, with all defaults but the rest between rounds."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from appliance.local.ports import free_base_port
from appliance.local.processes import Cluster, NodeProcess
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.operator_api.views import Status
from appliance.words.errors import OperatorError
from appliance.words.settings import Data, Delivery, Rounds, Training
from bench import alone
from bench.peers.contender import BATCH_SIZE, LEARNING_RATE, PARTICIPANTS, Job, Model


class Ours:
    """This product. ``delivery`` says how updates travel: the window is a wait by choice, that hides whose each is."""

    can_be_killed = True
    patience_s = 60.0

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        window = f"{delivery.window_s:g}"
        self.key = f"ours-{delivery.mode}-window-{window}-{delivery.compression}"
        self.title = f"ours, {delivery.mode}, window {window} s, {delivery.compression}"

    def prepare(self) -> None:
        """Nothing."""

    @contextmanager
    def running(self, job: Job) -> Iterator["OurTeam"]:
        """Start five nodes."""
        plan = ClusterPlan(
            nodes=PARTICIPANTS,
            base_port=free_base_port(PARTICIPANTS),
            data=Data(source="mnist", path=job.data),
            rounds=Rounds(interval_s=0.0, deadline_s=120.0),
            training=Training(learning_rate=LEARNING_RATE, batch_size=BATCH_SIZE),
            delivery=self._delivery,
        )
        with alone.nothing_left(), Cluster.running(create_cluster(job.folder / "cluster", plan)) as cluster:
            yield OurTeam(cluster)


class OurTeam:
    """Five nodes, and what they tell."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._models: list[Model] = []
        self._killed: NodeProcess | None = None

    def models(self) -> Sequence[Model]:
        """Return the lineage, as the first node that answers tells it."""
        for node in self._cluster.nodes:
            status = node.status()
            if status is None or status.model is None:
                continue
            if status.model.version >= len(self._models):
                with contextlib.suppress(OperatorError):
                    self._learn(node)
            break
        return self._models

    def _learn(self, node: NodeProcess) -> None:
        wall_to_monotonic = time.monotonic() - time.time()
        lineage = node.lineage()
        self._models += [
            Model(model.round, model.committed_at + wall_to_monotonic, model.accuracy)
            for model in lineage[len(self._models) :]
        ]

    def trouble(self) -> str:
        """Return which node ended, and its last words."""
        for node in self._cluster.nodes:
            if not node.is_running and node is not self._killed:
                return f"{node.name} ended:\n{node.last_lines(15)}"
        return ""

    def kill_aggregator(self) -> str:
        """Kill the leader."""
        leaders = [node for node in self._cluster.nodes if _leads(node.status())]
        if not leaders:
            raise OperatorError("no node leads, so there is none to kill")
        self._killed = leaders[0]
        self._killed.kill()
        return "the leader"

    def left(self) -> str:
        """Return how many nodes run."""
        return f"{sum(node.is_running for node in self._cluster.nodes)} of {PARTICIPANTS} nodes run"

    def revive(self) -> str:
        """Nothing: nobody needs to."""
        return ""


def _leads(status: Status | None) -> bool:
    return status is not None and status.role == "leader"
