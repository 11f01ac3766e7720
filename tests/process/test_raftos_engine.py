"""``consensus.engine = "raftos"``: upstream raftos 0.2.6, unchanged, in node processes; and what is said without it."""

import socket
import subprocess
from pathlib import Path

import msgspec
import pytest

from appliance.node.cluster import create_cluster
from appliance.words.settings import Consensus
from tests.process.cluster import NodeProcess, cli, plan
from tests.process.conftest import MakeCluster

UPSTREAM = Path(__file__).parents[2] / ".venv" / "upstream"
"""Where ``make test`` puts it: beside the dependencies, as it is none."""

PATIENT = Consensus(engine="raftos", heartbeat_interval_s=0.2, election_timeout_s=3.0)
"""A second election before the first entry is committed would leave upstream stuck for good (docs/consensus.md)."""


@pytest.mark.skipif(
    not (UPSTREAM / "raftos").is_dir(), reason=f"raftos is not installed in {UPSTREAM}; make test does it"
)
def test_elects_and_commits_a_round(make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(UPSTREAM))
    secret = tmp_path / "raftos.secret"
    secret.write_bytes(bytes(range(32)))
    secret.chmod(0o600)
    cluster = make_cluster(plan(3, consensus=msgspec.structs.replace(PATIENT, raftos_secret=secret)))
    cluster.start()
    leader = cluster.wait_leader()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for node in cluster.nodes.values():
            stranger.sendto(b"not a message", (node.config.me.host, node.config.me.consensus_port))
    cluster.wait_version(1)
    cluster.check_rounds(leader.lineage())
    for node in cluster.nodes.values():
        assert node.log().count("which is unsafe") == 1
        assert "docs/consensus.md" in node.log()
        status = node.status()
        assert status is not None
        assert status.network.datagrams_refused == {"strangers": 1}
        assert (node.config.state / "raftos").is_dir(), "another engine ran"
        assert not (node.config.state / "consensus").exists(), "another engine ran too"


@pytest.mark.parametrize("command", ["check", "run"])
def test_says_what_to_install(command: str, tmp_path: Path) -> None:
    (file,) = create_cluster(tmp_path / "cluster", plan(1))
    node = NodeProcess(file)
    node.change(consensus=msgspec.structs.replace(node.config.consensus, engine="raftos", raftos_secret=node.file))
    ran = subprocess.run(cli(command, "--config", file), capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1, ran
    assert ran.stderr == (
        'Error: consensus.engine is "raftos", which is not installed: pip install --no-deps raftos==0.2.6, '
        "or remove the key, as it is unsafe (docs/consensus.md)\n"
    )
