"""Updates of real nodes, by both modes of delivery, and with a relay that dies."""

from typing import Literal

import msgspec
import pytest

from appliance.storage.models import Residual, ResidualStore
from appliance.words.models import Encoding
from appliance.words.settings import Delivery, Envelopes, Rounds
from tests.process.cluster import plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until


@pytest.mark.parametrize(
    ("mode", "encoding", "other"), [("relay", "int8", "float16"), ("broadcast", "float16", "int8")]
)
def test_every_update_comes(
    make_cluster: MakeCluster, mode: Literal["relay", "broadcast"], encoding: Encoding, other: Encoding
) -> None:
    """Rounds that close with all four, and none that had to wait for its deadline; encoded as their leader says.

    One node's file says another encoding than those of the others: whoever leads, four updates of one kind come.
    """
    delivery = Delivery(mode=mode, window_s=0.2, compression=encoding)
    cluster = make_cluster(plan(4, rounds=Rounds(interval_s=0.1, deadline_s=30.0), delivery=delivery))
    cluster["node3"].change(delivery=msgspec.structs.replace(delivery, compression=other))
    cluster.start()
    cluster.wait_leader()
    cluster.wait_version(6)
    complete = [model for model in cluster.running[0].lineage() if model.updates == model.expected == 4]
    assert len(complete) >= 3
    assert all(model.duration_s < 30.0 for model in complete)
    logs = [node.log() for node in cluster.running]
    assert any(f"is open, for updates in {each}" in log for each in (encoding, other) for log in logs)
    assert not any("is refused" in log for log in logs)
    for node in cluster.running:
        found = ResidualStore(node.config.state / "update").get()
        assert isinstance(found, Residual), f"{node.name} has counted, and keeps nothing of what it lost"
        assert len(found.weights) > 1_500_000


def test_a_cluster_that_seals_with_ml_kem_too(make_cluster: MakeCluster) -> None:
    """And a node with another suite than the others takes no part, and says why."""
    envelopes = Envelopes(seal="rsa+mlkem768", rsa_bits=2048, pool=4)
    cluster = make_cluster(plan(4, rounds=Rounds(interval_s=0.1, deadline_s=10.0), envelopes=envelopes))
    odd = cluster["node3"]
    odd.change(envelopes=Envelopes(rsa_bits=2048, pool=4))
    cluster.start("node0", "node1", "node2")
    cluster.wait_leader()
    cluster.wait_version(2)
    assert any(model.updates == 3 for model in cluster.running[0].lineage())
    cluster.start("node3")

    def says_why() -> bool:
        status = odd.status()
        return status is not None and any("is not of the kind rsa that" in fault for fault in status.faults)

    until(says_why, "the odd node says why it takes no part")


def test_a_dead_relay_costs_one_retry_and_no_update(make_cluster: MakeCluster) -> None:
    """Killed while the others deliver, a relay takes envelopes with it; they come again, and the round closes."""
    cluster = make_cluster(plan(4, rounds=Rounds(interval_s=0.1, deadline_s=60.0), delivery=Delivery(window_s=1.0)))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    victim = next(node for node in cluster.running if node is not leader)

    def delivering() -> bool:
        return any(node.waits_for("participant", "waiting for the leader's receipt") for node in cluster.running)

    until(delivering, "the nodes deliver")
    victim.kill()
    version = cluster.newest_version()
    cluster.wait_version(version + 3)
    models = [model for model in cluster.running[0].lineage() if model.version > version]
    assert all(model.updates >= 3 for model in models), "an update of a live node was lost"
    assert all(model.duration_s < 30.0 for model in models), "a round had to wait for its deadline"
