"""Invariant 7 on the wire: a capture of whole rounds, in which no weight and no private key is found."""

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.envelopes.format import MAGIC
from tests.process.capture import TCP, UDP, Capture
from tests.process.cluster import Cluster, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

ROUNDS = 4
SLICE = 32
SLICES_OF_A_MODEL = 150
INSIDE = "P2PFL_TEST_IN_ITS_OWN_NETWORK"


def test_no_weight_and_no_private_key_is_on_the_wire(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(4))
    ports = {
        port for node in cluster.nodes.values() for port in (node.config.me.mesh_port, node.config.me.consensus_port)
    }
    try:
        capture = Capture(ports)
    except PermissionError:
        _again_in_a_namespace()
        return
    with capture:
        secrets = _rounds(cluster)
        lost = capture.lost()
        if lost and INSIDE in os.environ:
            pytest.skip(f"{lost} packets were lost: net.core.rmem_max is too small for a capture without root")
        assert lost == 0, "packets were lost: the search would prove nothing"
        streams, datagrams = capture.bytes_of(TCP), capture.bytes_of(UDP)
        _check_that_it_saw_the_rounds(capture, streams, datagrams, cluster)
        assert MAGIC not in streams, "an envelope is seen: it was not in TLS"
        for what, needle in secrets:
            assert needle not in streams, f"{what} is on the mesh in the clear"
            assert needle not in datagrams, f"{what} is in a datagram of consensus in the clear"
        _check_that_it_would_be_found(capture, secrets, cluster)


def _rounds(cluster: Cluster) -> list[tuple[str, bytes]]:
    """Train, change the leader, train on; return all that must not be seen."""
    for node in cluster.nodes.values():
        node.module = "tests.process.spied_node"
    cluster.start()
    leader = cluster.wait_leader()
    secrets: dict[bytes, str] = {}
    for version in range(1, ROUNDS + 1):
        cluster.wait_version(version)
        secrets.update({needle: what for what, needle in _weights(cluster)})  # models and updates are soon removed
        if version == ROUNDS // 2:
            leader.api.resign()
            until(lambda: leader.status() is not None and cluster.leader() not in {None, leader}, "another one leads")
    secrets.update({needle: what for what, needle in _weights(cluster)})
    keys = list(_keys(cluster))
    assert len(keys) > 3 * 4 * ROUNDS, "the keys that the nodes made are not known"
    assert len(secrets) > 3 * SLICES_OF_A_MODEL
    return [*((what, needle) for needle, what in secrets.items()), *keys]


def _weights(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    for node in cluster.nodes.values():
        for file in [*node.config.state.glob("models/*"), *node.config.state.glob("update/*")]:
            try:
                content = file.read_bytes()
            except FileNotFoundError:  # its round was committed a moment ago
                continue
            chance = random.Random(file.name)
            for _ in range(SLICES_OF_A_MODEL if len(content) > 10**5 else 0):
                start = chance.randrange(2000, len(content) - SLICE)
                part = content[start : start + SLICE]
                if len(set(part)) > SLICE // 2:  # not zeros, nor one number again and again
                    yield f"a weight of {file.parent.name}/{file.name[:12]}", part


def _keys(cluster: Cluster) -> Iterator[tuple[str, bytes]]:
    for node in cluster.nodes.values():
        key = load_pem_private_key(node.config.identity.private_key.read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        yield f"the TLS key of {node.name}", key.private_numbers().private_value.to_bytes(32, "big")
        yield f"the seed of {node.name}'s tokens", (node.config.state / "tokens.seed").read_bytes()
        for line in (node.folder / "keys.txt").read_text().splitlines():
            yield f"an RSA key that {node.name} made", bytes.fromhex(line)


def _check_that_it_saw_the_rounds(capture: Capture, streams: bytes, datagrams: bytes, cluster: Cluster) -> None:
    mesh = {node.config.me.mesh_port for node in cluster.nodes.values()}
    hellos = [flow for flow, part in capture.flows.items() if flow[2] in mesh and part[:2] == b"\x16\x03"]
    assert len(hellos) >= 12, "each of four nodes calls each of the others"
    assert len(streams) > ROUNDS * 3 * 2 * 1.5 * 10**6, "each round has updates and candidates of 1.6 MB"
    assert len(datagrams) > 10_000


def _check_that_it_would_be_found(capture: Capture, secrets: list[tuple[str, bytes]], cluster: Cluster) -> None:
    """The control: what is sent in the clear is found by the same search."""
    needle = secrets[0][1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"in the clear: " + needle, ("127.0.0.1", cluster["node0"].config.me.consensus_port))
    until(lambda: needle in capture.bytes_of(UDP), "the search finds what is in the clear")


def _again_in_a_namespace() -> None:
    """Run this test once more where it may listen: in a network namespace of its own, if the kernel allows it."""
    if INSIDE in os.environ:
        pytest.skip("raw sockets are not allowed here, not even in a network namespace of one's own")
    inner = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).resolve())]
    command = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *inner]
    if subprocess.run([*command[:3], "true"], capture_output=True, check=False).returncode:
        pytest.skip("raw sockets are not allowed here, and neither are network namespaces")
    ran = subprocess.run(command, env={**os.environ, INSIDE: "yes"}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    if " passed" not in ran.stdout:
        pytest.skip("raw sockets are not allowed here, not even in a network namespace of one's own")
