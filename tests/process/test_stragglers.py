"""Nodes that take long, may train in given hours only, or come too late: real processes, killed in mid-training."""

import subprocess
from datetime import datetime, timedelta

import msgspec
import pytest

from appliance.storage.checked import Absent
from appliance.storage.checkpoints import CheckpointStore
from appliance.words.settings import Rounds
from tests.process.cluster import NodeProcess, cli, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

ALL_OF_THREE = Rounds(quorum=3, interval_s=0.2, deadline_s=600.0)
"""A round that waits for everybody, so that a node that is killed finds it open when it comes back."""
LONG = 100
"""Epochs: some seconds, on a busy machine half a minute."""
SLOWLY = pytest.mark.timeout(300)
"""Three starts of a node and a long training, on machines that do much else."""
RESUMED = "goes on from its checkpoint"


def checkpointed(node: NodeProcess) -> float:
    """Return the share of the training that the checkpoint of a node that does not run holds."""
    found = CheckpointStore(node.config.state / "training").get()
    assert not isinstance(found, Absent)
    return found.header.epoch / node.config.training.epochs


def progress(node: NodeProcess) -> float | None:
    status = node.status()
    return None if status is None else status.progress


@SLOWLY
def test_killed_in_mid_training_it_goes_on_from_its_checkpoint(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(3, rounds=ALL_OF_THREE))
    node = cluster["node0"]
    node.change(training=msgspec.structs.replace(node.config.training, epochs=LONG, checkpoint_s=0.1))
    cluster.start()
    until(lambda: (progress(node) or 0.0) > 0.3, "a third of the training", within_s=60.0)
    node.kill()
    share = checkpointed(node)
    assert share > 0.1
    size = node.log_size()
    cluster.start(node.name)
    until(lambda: RESUMED in node.log()[size:], "it goes on from its checkpoint", within_s=60.0)
    until(lambda: (progress(node) or 0.0) >= share, "not from 0", within_s=5.0)

    # An orderly stop loses nothing at all, however seldom checkpoints are written.
    assert node.stop() == 0
    at_stop = checkpointed(node)
    assert at_stop >= share
    size = node.log_size()
    cluster.start(node.name)
    until(lambda: RESUMED in node.log()[size:], "it goes on again", within_s=60.0)
    cluster.wait_version(1)
    assert node.lineage()[1].updates == 3
    cluster.check_rounds(node.lineage())


def _reload(node: NodeProcess, hours: tuple[str, ...]) -> None:
    node.change(training=msgspec.structs.replace(node.config.training, hours=hours))
    command = cli("reload", "--config", node.file)
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("training.hours: ")


def test_training_hours_on_a_running_node(make_cluster: MakeCluster) -> None:
    """Nobody waits for the deadline, ten minutes away: a node outside its hours is left out, and comes in again."""
    opens = datetime.now() + timedelta(hours=2)
    closed = (f"{opens:%H:%M}-{opens + timedelta(hours=1):%H:%M}",)
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=0.2, deadline_s=600.0)))
    node = cluster["node2"]
    node.change(training=msgspec.structs.replace(node.config.training, hours=closed))
    cluster.start()
    cluster.wait_version(2)
    assert [model.updates for model in node.lineage()[1:]] == [2] * (len(node.lineage()) - 1)
    wait = f"waiting for the training hours (next: {opens:%H:%M})"
    until(lambda: node.waits_for("participant", wait), "its status says so")
    assert "training for round" not in node.log()
    _reload(node, ())
    until(lambda: node.lineage()[-1].updates == 3, "it takes part", within_s=60.0)


@SLOWLY
def test_hours_that_end_in_mid_training_pause_it(make_cluster: MakeCluster) -> None:
    opens = datetime.now() + timedelta(hours=2)
    cluster = make_cluster(plan(3, rounds=ALL_OF_THREE))
    node = cluster["node0"]
    node.slow_down(epochs=LONG)
    cluster.start()
    until(lambda: (progress(node) or 0.0) > 0.2, "some training", within_s=60.0)
    _reload(node, (f"{opens:%H:%M}-{opens + timedelta(hours=1):%H:%M}",))
    until(lambda: node.waits_for("participant", "waiting for the training hours"), "it pauses")
    paused_at = checkpointed(node)
    assert paused_at >= 0.2
    _reload(node, ())
    until(lambda: RESUMED in node.log(), "it goes on")
    until(lambda: (progress(node) or 0.0) >= paused_at, "not from 0", within_s=5.0)
    cluster.wait_version(1)
    assert node.lineage()[1].updates == 3
    assert isinstance(CheckpointStore(node.config.state / "training").get(), Absent)
