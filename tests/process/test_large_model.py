"""Models so large that they wait in files while they come: rounds, and a leader that dies, on real nodes."""

from pathlib import Path

from appliance.words.settings import Rounds
from bench import networks
from tests.process.cluster import NodeProcess, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

MILLIONS = 6
"""24 MB; from 16 MiB on a message comes into a file."""


def comes_into_a_file(node: NodeProcess) -> bool:
    return str(node.folder / "state/arriving") in Path(f"/proc/{node.pid}/maps").read_text()


def test_rounds_of_a_large_model_survive_their_leader(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=0.1, deadline_s=60.0)))
    for node in cluster.nodes.values():
        node.change(task=networks.setting("wide", millions=MILLIONS))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(2)
    assert all(model.updates == 3 for model in cluster.running[0].lineage()[1:])
    until(
        lambda: any(comes_into_a_file(node) for node in cluster.running if node is not leader),
        "a candidate comes into a file",
    )
    until(lambda: comes_into_a_file(leader), "an update comes into a file")

    leader.kill()
    version = cluster.newest_version()
    cluster.wait_version(version + 2)
    first, second = (node.lineage() for node in cluster.running)
    assert first[: version + 3] == second[: version + 3]
    for node in cluster.running:
        cluster.check_rounds(node.lineage())
        assert list((node.folder / "state/arriving").iterdir()) == [], "it has a name"
        assert "ERROR" not in node.log()
