"""Certificates of running nodes: revoked, renewed, and added without touching anybody else's files."""

import http.client
import socket
import ssl
import subprocess
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from appliance.pki.identity import NodeIdentity
from tests.process.cluster import Cluster, NodeProcess, cli, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

WITHIN_S = 30.0


def pki(*arguments: str | Path) -> str:
    """Run ``p2pfl-node pki``; return what it prints."""

    ran = subprocess.run(cli("pki", *arguments), capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def served(node: NodeProcess, client: NodeProcess) -> int:
    """Return the serial number of the certificate that a node shows on its mesh port."""

    context = NodeIdentity.load(client.config.identity, client.name).client_context()
    with (
        socket.create_connection((node.config.me.host, node.config.me.mesh_port), timeout=10) as channel,
        context.wrap_socket(channel, server_hostname=node.name) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    cluster = make_cluster(plan(4))
    cluster.start()
    cluster.wait_leader()
    cluster.wait_version(1)
    return cluster


def test_a_revoked_node_is_out_everywhere_and_the_others_go_on(cluster: Cluster) -> None:
    authority = cluster["node0"].folder.parent / "ca"
    assert "node3" in pki("revoke", "--ca", authority, "node3")
    # Given to one node; it may be any.
    pki("distribute", "--config", cluster["node1"].file, authority / "revoked.pem")
    honest = [cluster[name] for name in ("node0", "node1", "node2")]
    for node in honest:
        until(partial(_says, node, "revocation list 1 is in force"), f"{node.name} has it", within_s=WITHIN_S)
        until(partial(node.peer_is, "node3", "down"), f"{node.name} does not hear node3", within_s=WITHIN_S)
    with pytest.raises((ssl.SSLError, OSError)):
        _ask(cluster["node0"], cluster["node3"])
    cluster.wait_leader(honest)
    version = cluster.newest_version(honest)
    cluster.wait_version(version + 2, honest)
    # With a fresh certificate it is a member as before; nobody else is touched.
    _renew(cluster["node3"], authority)
    for node in honest:
        until(partial(node.peer_is, "node3", "up"), f"{node.name} hears node3 again", within_s=WITHIN_S)


def test_a_certificate_is_renewed_without_a_restart(cluster: Cluster) -> None:
    node, other = cluster["node1"], cluster["node2"]
    assert node.process is not None
    pid, before = node.process.pid, served(node, other)
    _renew(node, node.folder.parent / "ca")
    until(lambda: served(node, other) != before, "it shows the new one", within_s=WITHIN_S)
    version = cluster.newest_version()
    cluster.wait_version(version + 2)
    assert node.process.pid == pid
    assert node.is_running
    assert "the certificate is renewed" in node.log()


def _says(node: NodeProcess, sentence: str) -> bool:
    return sentence in node.log()


def _renew(node: NodeProcess, authority: Path) -> None:
    request, fresh = node.config.identity.certificate.with_suffix(".csr"), node.folder / "new.pem"
    pki("renew", "--config", node.file)
    pki("issue", "--ca", authority, "--out", fresh, request)
    pki("install", "--config", node.file, fresh)


def _ask(node: NodeProcess, caller: NodeProcess) -> None:
    """Send an HTTP request with a node's certificate. In TLS 1.3 a refusal comes with the first bytes that are read."""

    context = NodeIdentity.load(caller.config.identity, caller.name).client_context()
    context.check_hostname = False
    connection = http.client.HTTPSConnection(node.config.me.host, node.config.me.mesh_port, timeout=10, context=context)
    try:
        connection.request("POST", "/v1/messages", b"x")
        connection.getresponse()
    finally:
        connection.close()
    raise AssertionError("a revoked certificate is served")
