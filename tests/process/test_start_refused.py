"""What a node can't start with: one clear sentence that says what to do, exit 1, and no stack trace."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.node.cluster import create_cluster
from appliance.pki.authority import Authority, certificate_pem, new_key
from tests.process.cluster import NodeProcess, cli, plan

_WITHIN_S = 60.0


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeProcess]:
    """A node of three that was never started."""
    first, *_ = create_cluster(tmp_path / "cluster", plan(3))
    made = NodeProcess(first)
    yield made
    made.kill()


def refusal(node: NodeProcess) -> str:
    """Run the node; return the sentence with which it refuses."""
    ran = subprocess.run(
        cli("run", "--config", node.file), capture_output=True, text=True, timeout=_WITHIN_S, check=False
    )
    assert ran.returncode == 1, ran
    assert ran.stdout == ""
    *before, last = ran.stderr.splitlines()
    assert last.startswith("Error: "), ran.stderr
    assert not before, f"more than one sentence: {ran.stderr}"
    return last.removeprefix("Error: ")


def test_mesh_port_in_use(node: NodeProcess) -> None:
    with socket.create_server(("127.0.0.1", node.config.me.mesh_port)):
        assert refusal(node) == (
            f"cluster.members.node0.mesh_port: port {node.config.me.mesh_port} is in use by another process; "
            "stop that one, or choose another port"
        )


def test_consensus_port_in_use(node: NodeProcess) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", node.config.me.consensus_port))
        said = refusal(node)
    assert f"UDP port {node.config.me.consensus_port}" in said
    assert "cluster.members.node0.consensus_port" in said


def test_operator_port_in_use(node: NodeProcess) -> None:
    with socket.create_server(("127.0.0.1", node.config.operator.port)):
        said = refusal(node)
    assert said.startswith(f"operator.port: 127.0.0.1:{node.config.operator.port} can't be opened")
    assert said.endswith("end what uses it or choose another port")


def test_missing_certificate(node: NodeProcess) -> None:
    node.config.identity.certificate.unlink()
    assert refusal(node) == (
        f"{node.config.identity.certificate}: is missing; p2pfl-node init makes it, or pki csr and pki issue do"
    )


def test_certificate_of_another_clusters_authority(node: NodeProcess) -> None:
    key_file, certificate_file = node.config.identity.private_key, node.config.identity.certificate
    stranger = Authority.create("another")
    key = new_key()
    certificate_file.write_bytes(certificate_pem(stranger.issue("node0", key.public_key())))
    assert "does not belong to the certificate" in refusal(node)
    other = create_cluster(node.folder.parent.parent / "another", plan(1))[0].parent
    shutil.copy(other / "tls" / "node.pem", certificate_file)
    shutil.copy(other / "tls" / "node.key", key_file)
    said = refusal(node)
    assert said.startswith(f"{certificate_file}: a foreign certificate, not signed by the authority in ")


def test_certificate_of_another_node(node: NodeProcess) -> None:
    other = node.folder.parent / "node1" / "tls"
    shutil.copytree(other, node.folder / "tls", dirs_exist_ok=True)
    assert "is the certificate of node1, and this node is node0" in refusal(node)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("[rounds]\nintervall_s = 1.0", "rounds.intervall_s: is no key here; did you mean interval_s?"),
        ("[training]\nepochs = 0", "training.epochs: must be a whole number >= 1"),
        ("[training]\nepochs = ", "is not valid TOML"),
        ("[logging]\nlevel = 'loud'", 'logging.level: must be one of "debug", "info", "warning", "error"'),
    ],
)
def test_configuration_typo(node: NodeProcess, line: str, sentence: str) -> None:
    text = node.file.read_text()
    if line.startswith("[rounds]"):
        text = text.replace("[rounds]", line)
    else:
        text += f"\n{line}\n"
    node.file.write_text(text)
    said = refusal(node)
    assert said.startswith(f"{node.file}: ")
    assert sentence in said


def test_missing_configuration(node: NodeProcess) -> None:
    node.file.unlink()
    assert refusal(node) == f"{node.file}: can't be read (No such file or directory); give the file with --config"


def test_state_folder_that_is_a_file(node: NodeProcess) -> None:
    """As root no mode forbids writing; a file in the folder's place does, for everybody."""
    node.config.state.rmdir()
    node.config.state.write_text("not a folder")
    assert refusal(node) == (
        f"can't open {node.config.state / 'lock'}: a file lies where a folder must be; "
        "remove it or correct the path in the configuration"
    )


def test_state_folder_below_a_file(node: NodeProcess) -> None:
    node.config.state.rmdir()
    node.config.state.write_text("not a folder")
    node.change(state=node.config.state / "below")
    assert "a file lies where a folder must be" in refusal(node)


def test_foreign_digits_of_mnist(node: NodeProcess) -> None:
    """A data folder without the data set."""
    folder = node.folder / "mnist"
    folder.mkdir()
    node.file.write_text(node.file.read_text().replace('source = "digits"', 'source = "mnist"\npath = "mnist"'))
    assert str(folder) in refusal(node)
