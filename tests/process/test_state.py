"""State that is damaged or can't be written: said, never hidden, and never a lost global model."""

import contextlib
import os
import resource
import subprocess

from appliance.words.settings import Rounds
from tests.process.cluster import Cluster, NodeProcess, cli, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until


def _ran_and_stopped(make_cluster: MakeCluster) -> tuple[Cluster, NodeProcess]:
    """A cluster of one that has committed some rounds, stopped."""
    cluster = make_cluster(plan(1))
    cluster.start()
    cluster.wait_version(2)
    node = cluster["node0"]
    assert node.stop() == 0
    return cluster, node


def _refusal(node: NodeProcess) -> str:
    ran = subprocess.run(cli("run", "--config", node.file), capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert line.startswith("Error: ")
    return line.removeprefix("Error: ")


def test_second_process_on_one_state_folder(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(1))
    cluster.start()
    node = cluster["node0"]
    assert _refusal(node) == (
        f"{node.config.state} is used by another process; stop it, or give this node a folder of its own"
    )
    version = cluster.newest_version()
    cluster.wait_version(version + 1)


def test_consensus_log_damaged_in_the_middle_is_refused(make_cluster: MakeCluster) -> None:
    """What follows the damage was promised to others: to go on without it could elect who lacks a commit."""
    _, node = _ran_and_stopped(make_cluster)
    file = node.config.state / "consensus" / "log"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    said = _refusal(node)
    assert said.startswith(f"{file} is damaged at byte ")
    assert said.endswith("restore the folder from a copy, or empty it and let the node join anew")
    assert file.read_bytes() == content


def test_torn_tail_of_the_consensus_log_is_dropped(make_cluster: MakeCluster) -> None:
    cluster, node = _ran_and_stopped(make_cluster)
    file = node.config.state / "consensus" / "log"
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:37])
    cluster.start()
    cluster.check_lineages()
    cluster.wait_version(4)
    cluster.check_rounds(node.lineage())


def test_damaged_models_are_fetched_again(make_cluster: MakeCluster) -> None:
    """The leader's and a follower's bytes of the newest model: one sound copy serves them all (invariant 3)."""
    deadline_s = 100.0
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=2.0, deadline_s=deadline_s)))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    follower = next(node for node in cluster.running if node is not leader)
    until(lambda: all({_damage_models(leader), _damage_models(follower)}), "both find the damage")
    version = cluster.newest_version()
    # Nobody waits for the deadline: what is missing is asked for.
    until(lambda: len(leader.lineage()) > version + 1, "the next round", within_s=deadline_s / 2)
    until(lambda: leader.lineage()[-1].updates == 3, "three updates in a round")
    for node in cluster.running:
        until(lambda node=node: _faults(node) == [], f"{node.name} has no fault left")  # type: ignore[misc]
    cluster.check_lineages()


def _damage_models(node: NodeProcess) -> bool:
    """Flip a byte of each model on disk, unless the node has said that it found such damage."""
    if "did not hold what its name says, and was removed" in node.log():
        return True
    for file in (node.config.state / "models").glob("*.safetensors"):
        with contextlib.suppress(FileNotFoundError), file.open("r+b") as content:
            content.seek(-1, os.SEEK_END)
            content.write(b"!")
    return False


def test_damaged_model_of_every_kind_on_the_only_node(make_cluster: MakeCluster) -> None:
    """A cluster of one has nobody to ask: it says what is missing, and waits."""
    cluster, node = _ran_and_stopped(make_cluster)
    for file in (node.config.state / "models").glob("*.safetensors"):
        file.write_bytes(b"damaged")
    size = node.log_size()
    cluster.start()
    until(lambda: "did not hold what its name says" in node.log()[size:], "the damage is said")
    until(lambda: _faults(node), "status shows it")
    assert node.stop() == 0


def test_damaged_kept_update_is_said_and_trained_again(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(3))
    # One slow node keeps the round open while another has its update finished on disk.
    cluster["node0"].slow_down(epochs=60)
    cluster.start()
    cluster.wait_leader()
    kept = [node.config.state / "update" / "update" for node in (cluster["node1"], cluster["node2"])]
    until(lambda: all(file.exists() for file in kept), "two kept updates", every_s=0.01)
    node = cluster["node1"] if cluster.leader() is not cluster["node1"] else cluster["node2"]
    node.kill()
    file = node.config.state / "update" / "update"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    size = node.log_size()
    cluster.start(node.name)
    assert f"{file} was damaged or of another version, and was removed" in node.log()[size:]
    until(lambda: "training for round" in node.log()[size:], "it trains again")
    cluster.wait_version(cluster.newest_version() + 1)


def test_disk_that_takes_no_more_models(make_cluster: MakeCluster) -> None:
    """Writes of models and updates fail on one node: it says so, the others go on, and it recovers by itself.

    The deadline is far beyond this test: nobody waits for the one that can't train.
    """
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=0.2, deadline_s=600.0)))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    node = next(node for node in cluster.running if node is not leader)
    before = _limit_file_size(node, 500_000)
    until(lambda: _faults(node), "a fault in its status")
    version = cluster.newest_version()
    cluster.wait_version(version + 2, [other for other in cluster.running if other is not node])
    assert any(str(node.config.state) in fault for fault in _faults(node)), _faults(node)
    assert "Traceback" not in node.log()

    _limit_file_size(node, before)
    until(lambda: node.lineage()[-1].updates == 3, "three updates in a round", within_s=60)
    until(lambda: _faults(node) == [], f"the fault is gone: {_faults(node)}")
    assert cluster.running == list(cluster.nodes.values())


def test_full_disk_of_the_aggregator(make_cluster: MakeCluster) -> None:
    """A leader that can't store what it aggregates hands over, and the round is committed by another."""
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=0.2, deadline_s=3.0)))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    others = [node for node in cluster.running if node is not leader]
    _limit_file_size(leader, 500_000)
    version = cluster.newest_version()
    cluster.wait_leader(other_than=leader)
    cluster.wait_version(version + 2, others)
    assert "can't be aggregated here" in leader.log() or "training failed" in leader.log()
    assert "Traceback" not in leader.log()


def test_consensus_log_that_can_not_grow_ends_the_node_with_a_sentence(make_cluster: MakeCluster) -> None:
    """Nothing may be promised that is not durable: the node ends, and says why; started again, it goes on."""
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=0.2, deadline_s=3.0)))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    node = next(node for node in cluster.running if node is not leader)
    size = (node.config.state / "consensus" / "log").stat().st_size
    _limit_file_size(node, size)
    assert node.wait_exit(60) == 1
    last = node.log().splitlines()[-1]
    assert last.startswith(f"Error: can't write {node.config.state / 'consensus' / 'log'}: ")
    assert "Traceback" not in node.log()
    cluster.wait_version(cluster.newest_version() + 1)
    cluster.start(node.name)
    cluster.wait_version(cluster.newest_version() + 1)


def _limit_file_size(node: NodeProcess, size: int) -> int:
    """Let the node's writes fail beyond this size, as a full disk would; return the limit before."""
    before, hard = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (size, hard))
    return before


def _faults(node: NodeProcess) -> list[str]:
    status = node.status()
    return status.faults if status else []
