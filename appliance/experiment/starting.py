"""A global model to start from: the paper's was at 91.03 % when its participants began to train."""

from pathlib import Path

from appliance.experiment.laboratory import Laboratory
from appliance.local.paper import INITIAL_ACCURACY
from appliance.local.processes import NodeProcess
from appliance.local.watch import until
from appliance.node.cluster import ClusterPlan
from appliance.operator_api.client import NodeApi
from appliance.words.settings import Data, Delivery, Rounds, Training

ROUND_EVERY_S = 0.5
"""Long enough that a model is fetched before the next is committed."""
WITHIN_S = 180.0


def starting_model(laboratory: Laboratory, data: Data, training: Training) -> Path:
    """Let one node by itself train a fresh network, a round a pass, until the paper's initial accuracy is passed.

    Returns:
        the model's file, safetensors.

    Args:
        data: its shard; none of the participants', so that nobody trains on an image twice.

    Raises:
        OperatorError: the accuracy is not reached.
    """
    plan = ClusterPlan(
        nodes=1,
        data=data,
        training=training,
        rounds=Rounds(interval_s=ROUND_EVERY_S),
        delivery=Delivery(window_s=0.0),
    )
    what = f"a starting model of {INITIAL_ACCURACY:.2%}"
    with laboratory.running(laboratory.new_cluster(plan)) as cluster:
        node = cluster.nodes[0]
        until(lambda: _is_good_enough(node), what, WITHIN_S)
        content = NodeApi(node.config.operator).get("/v1/model")
    file = laboratory.folder / f"start-{training.seed}.safetensors"
    file.write_bytes(content)
    return file


def _is_good_enough(node: NodeProcess) -> bool:
    status = node.status()
    return status is not None and status.model is not None and status.model.accuracy >= INITIAL_ACCURACY
