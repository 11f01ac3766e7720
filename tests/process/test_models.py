"""Going back to an earlier model, and the guard that withholds a bad one, on real nodes."""

import json
import subprocess
from pathlib import Path

import msgspec

from appliance.words.models import GlobalModel
from appliance.words.settings import Models, Training
from tests.process.cluster import Cluster, NodeProcess, cli, digest, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

GOOD, ABSURD = 1e-3, 1.0


def ask(node: NodeProcess, *arguments: str | int | Path) -> subprocess.CompletedProcess[str]:
    command = cli("model", *map(str, arguments), "--config", node.file)
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_the_cluster_goes_back_to_an_earlier_model(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(plan(3))
    for node in cluster.nodes.values():
        node.change(models=Models(keep=1000))  # however slow this machine is, version 1 is still there
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(2)
    follower = next(node for node in cluster.running if node is not leader)
    refused = ask(follower, "rollback", 1)
    assert (refused.returncode, refused.stderr) == (
        1,
        f"Error: {leader.name} leads now; models are rolled back on the leader\n",
    )
    assert "version 1000000 is not in the lineage" in ask(leader, "rollback", 1_000_000).stderr

    done = ask(leader, "rollback", 1)
    assert done.returncode == 0, done
    [back] = [model for model in leader.lineage() if model.rolled_back_to is not None]
    assert done.stdout.splitlines()[-1].startswith(f"version {back.version} has the bytes of version 1")
    cluster.wait_version(back.version + 2)
    for node in cluster.running:
        lineage = node.lineage()
        cluster.check_rounds(lineage)
        assert lineage[back.version] == back
        assert back.digest == lineage[1].digest
        assert (lineage[back.version + 1].base, lineage[back.version + 1].updates) == (back.digest, 3)
        assert (node.folder / "state/models" / f"{back.digest.removeprefix('sha256:')}.safetensors").exists()
    assert f"rolled back in the place of round {back.round}" in follower.log()

    # It is in what a node reads when it starts again, and what every node can give away.
    assert follower.stop() == 0
    cluster.start(follower.name)
    until(lambda: follower.lineage()[back.version : back.version + 1] == [back], "the lineage is read again")
    out = tmp_path / "old.safetensors"
    exported = ask(follower, "export", back.version, "--out", out)
    assert exported.returncode == 0, exported
    assert digest(out.read_bytes()) == back.digest
    notes = json.loads((tmp_path / "old.safetensors.json").read_text())
    assert msgspec.convert(notes["lineage"], GlobalModel) == back
    assert f"rolled back to version {back.rolled_back_to}" in ask(follower, "list").stdout


def learn_at(cluster: Cluster, rate: float) -> None:
    for node in cluster.nodes.values():
        node.change(training=msgspec.structs.replace(node.config.training, learning_rate=rate))
        assert any("training.learning_rate" in line for line in node.api.reload().applied)


def test_a_model_that_an_absurd_learning_rate_ruined_is_not_published(make_cluster: MakeCluster) -> None:
    """As in the paper, where the average fell to 71 % at a learning rate of 1e-2, and was published."""
    cluster = make_cluster(plan(3, training=Training(learning_rate=GOOD)))
    cluster.start()
    leader = cluster.wait_leader()
    until(lambda: any(model.accuracy > 0.6 for model in leader.lineage()[-1:]), "it has learnt", within_s=60.0)
    learn_at(cluster, ABSURD)

    def withheld() -> list[GlobalModel]:
        return [model for node in cluster.running for model in node.lineage() if model.withheld]

    until(withheld, "a model is withheld", within_s=60.0)
    found = withheld()[0]
    until(lambda: leader.lineage()[found.version + 1 :], "the next round is done too", within_s=60.0)
    lineage = leader.lineage()
    cluster.check_rounds(lineage)
    before, entry, after = lineage[found.version - 1 : found.version + 2]
    assert entry == found
    assert (entry.digest, entry.updates) == (before.digest, 3)
    assert "it fell by more than 0.1 (aggregation.most_drop)" in entry.withheld
    assert after.base == before.digest
    assert f"the model of round {entry.round} is not published" in "".join(node.log() for node in cluster.running)
    assert all(model.accuracy > 0.5 for model in lineage[found.version :])
    status = subprocess.run(
        cli("status", "--config", leader.file), capture_output=True, text=True, timeout=90, check=False
    )
    assert "not published" in status.stdout

    learn_at(cluster, GOOD)
    until(lambda: not leader.lineage()[-1].withheld, "a good one is published", within_s=60.0)
    cluster.check_rounds(leader.lineage())
    # What was made and withheld does not pile up on the leader's disk.
    kept = {model.digest for model in leader.lineage()}
    on_disk = {"sha256:" + file.stem for file in (leader.folder / "state/models").glob("*.safetensors")}
    assert len(on_disk - kept) <= 1, "but for the one under way"
