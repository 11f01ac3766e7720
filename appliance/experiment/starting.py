"""A global model to start from: the paper's was at 91.03 % when its participants began to train."""

import contextlib
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.experiment.laboratory import Laboratory
from appliance.experiment.paper import INITIAL_ACCURACY
from appliance.local.processes import NodeProcess
from appliance.local.watch import until
from appliance.node.cluster import ClusterPlan
from appliance.operator_api.client import NodeApi
from appliance.words.errors import OperatorError
from appliance.words.ids import digest_of
from appliance.words.models import GlobalModel
from appliance.words.settings import Data, Delivery, Rounds, Training

ROUND_EVERY_S = 0.5
"""Long enough that a model is fetched before the next is committed."""
WITHIN_S = 180.0


class Starting(Struct, frozen=True):
    """A model in a file, and what the node that made it says of it."""

    file: Path
    model: GlobalModel


def starting_model(laboratory: Laboratory, data: Data, training: Training) -> Starting:
    """Let one node by itself train a fresh network, a round a pass, until the paper's initial accuracy is passed.

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
        content, model = until(lambda: _good_enough(node), what, WITHIN_S)
    file = laboratory.folder / f"start-{model.digest.removeprefix('sha256:')[:16]}.safetensors"
    file.write_bytes(content)
    return Starting(file, model)


def _good_enough(node: NodeProcess) -> tuple[bytes, GlobalModel] | None:
    """Return the newest model and its bytes once it is good enough; None before."""
    status = node.status()
    if status is None or status.model is None or status.model.accuracy < INITIAL_ACCURACY:
        return None
    with contextlib.suppress(OperatorError):
        content = NodeApi(node.config.operator).get("/v1/model")
        by_digest = {model.digest: model for model in node.lineage()}
        return content, by_digest[digest_of(content)]
    return None


def with_start(training: Training, start: Starting) -> Training:
    """Return the settings by which the lineage begins with this model."""
    return msgspec.structs.replace(training, initial=start.file)
