"""A server optimizer's state is in the global model's bytes: the next leader goes on from it, others read past it."""

import itertools

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from appliance.words.models import GlobalModel
from appliance.words.settings import Aggregation, Rounds
from tests.process.cluster import NodeProcess, digest, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

Model = dict[str, NDArray[np.float32]]
SECOND = "aggregation.second/"


def test_the_next_leader_goes_on_from_the_state_and_a_node_of_other_settings_takes_part(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=1.0, deadline_s=20.0)))
    for node in cluster.nodes.values():
        node.change(aggregation=Aggregation("fedadam"))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(3)
    leader.kill()
    survivor = cluster.running[0]
    seen: dict[str, Model] = {}
    first = until(lambda: _first_of_a_term(survivor, seen), "a model of the next leader", within_s=60.0, every_s=0.02)
    before, after = seen[str(first.base)], seen[first.digest]
    names = [name for name in before if name.startswith(SECOND)]
    assert len(names) == len(before) / 3
    assert any((before[name] > 2e-6).any() for name in names), "far from its beginning, 1e-6"
    for name in names:
        # FedAdam: v = 0.99 v + 0.01 d^2. Begun anew, it would be far below where the last steps were large.
        assert (after[name] >= 0.99 * before[name] * (1 - 1e-6)).all()

    leader.change(aggregation=Aggregation("mean"))
    cluster.start(leader.name)
    version = cluster.newest_version()
    until(
        lambda: any(model.updates == 3 for model in survivor.lineage()[version + 1 :]), "three updates", within_s=60.0
    )
    cluster.wait_version(cluster.newest_version())
    cluster.check_rounds(leader.lineage())


def _first_of_a_term(node: NodeProcess, seen: dict[str, Model]) -> GlobalModel | None:
    """Keep the node's model; return one whose base is of an earlier term, once both were kept."""
    content = node.api.get("/v1/model")
    if digest(content) not in seen:
        seen[digest(content)] = safetensors.numpy.load(content)
    lineage = node.lineage()
    return next(
        (
            model
            for base, model in itertools.pairwise(lineage)
            if base.term < model.term and {base.digest, model.digest} <= seen.keys()
        ),
        None,
    )
