"""Tasks on real nodes: a node with another model is kept out and hurts nobody; the tutorials work to the letter."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.words.settings import Task
from tests.process.cluster import free_base_port, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

ROOT = Path(__file__).parents[2]
SAID = "kept out of rounds: this node's task is cnn 1 ("


def test_a_node_with_another_model_is_kept_out_and_the_others_go_on(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(4))
    odd = cluster["node3"]
    odd.change(task=Task(name="cnn"))
    cluster.start("node0", "node1", "node2")
    cluster.wait_version(1)
    odd.start()
    cluster.wait_version(3)
    until(lambda: odd.waits_for("participant", SAID), "it is told so")
    lineage = cluster["node0"].lineage()
    assert {model.updates for model in lineage[-2:]} == {3}
    assert all(model.task.startswith("ann 1 (") for model in lineage)

    def turns() -> int:
        status = cluster["node0"].status()
        return status.turns.get("node3", 0) if status else 0

    def resign() -> bool:
        leader = cluster.leader()
        if leader is not None and leader is not odd and not turns():
            subprocess.run([sys.executable, "-m", "appliance.cli.main", "resign", "--config", leader.file], check=False)
        return turns() > 0

    until(resign, "it gets a turn", within_s=60.0)
    cluster.wait_version(cluster.newest_version() + 2)
    assert cluster.leader() is not odd
    assert len(re.findall(f"ERROR +{re.escape(SAID)}", odd.log())) == 1
    cluster.check_rounds(cluster["node0"].lineage())


@pytest.mark.parametrize("tutorial", ["task-cnn.md", "task-tabular.md"])
def test_a_tutorial_works_to_the_letter(tutorial: str, tmp_path: Path) -> None:
    """All of its commands, one after another, in an empty folder; but for the ports, which may be taken here."""
    text = (ROOT / "docs" / tutorial).read_text(encoding="utf-8")
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert "p2pfl-node init" in script
    script = script.replace("p2pfl-node init", f"p2pfl-node init --base-port {free_base_port(5)}")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    # Into a file: the nodes that it starts outlive the shell, and would keep a pipe open.
    output = tmp_path / "output"
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        shell.wait(timeout=110)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    said = output.read_text(encoding="utf-8")
    assert shell.returncode == 0, said
    assert float(re.findall(r"accuracy (\S+),", said.strip().splitlines()[-1])[0]) > 0.6, said
