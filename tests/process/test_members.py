"""Members that come and go while the cluster trains, by the steps of docs/operations.md, with real processes."""

import shutil
import subprocess
from pathlib import Path

import msgspec

from appliance.node import template
from appliance.words.settings import Identity, Member
from tests.process.cluster import PORTS_PER_NODE, Cluster, NodeProcess, cli, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until


def ask(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(cli(*arguments), capture_output=True, text=True, timeout=90, check=False)


def new_node(cluster: Cluster, name: str) -> NodeProcess:
    """Make the files of a node that is to join: its own key, a certificate, the secret, and where the others are."""
    pattern = cluster["node0"]
    folder = cluster.folder / name
    assert ask("pki", "csr", name, folder / "tls").returncode == 0
    issued = ask(
        "pki", "issue", "--ca", cluster.folder / "ca", "--out", folder / "tls/node.pem", folder / "tls/node.csr"
    )
    assert issued.returncode == 0, issued
    shutil.copy(cluster.folder / "ca" / "ca.pem", folder / "tls" / "ca.pem")
    shutil.copy(pattern.folder / "consensus.secret", folder / "consensus.secret")
    base = max(member.mesh_port for member in pattern.config.cluster.members.values()) + PORTS_PER_NODE
    members = {**pattern.config.cluster.members, name: Member("127.0.0.1", base, base + 1)}
    config = msgspec.structs.replace(
        pattern.config,
        node=name,
        cluster=msgspec.structs.replace(pattern.config.cluster, members=members, join=True),
        identity=Identity(
            ca=Path("tls/ca.pem"),
            certificate=Path("tls/node.pem"),
            private_key=Path("tls/node.key"),
            consensus_secret=Path("consensus.secret"),
        ),
        state=Path("state"),
        operator=msgspec.structs.replace(pattern.config.operator, port=base + 2),
    )
    (folder / "node.toml").write_text(template.render(config))
    return NodeProcess(folder / "node.toml")


def test_a_node_joins_takes_part_and_the_leader_leaves(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(3))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    joined = cluster.nodes["node3"] = new_node(cluster, "node3")
    joined.start()
    until(lambda: joined.waits_for("node", "no member of the cluster"), "it says that it waits", within_s=60.0)

    place = joined.config.me
    here = ("--host", place.host, "--mesh-port", str(place.mesh_port), "--consensus-port", str(place.consensus_port))
    follower = next(node for node in cluster.running if node not in {leader, joined})
    refused = ask("member", "add", "--config", follower.file, "node3", *here)
    assert (refused.returncode, refused.stderr) == (
        1,
        f"Error: {leader.name} leads now; members are added and removed on the leader\n",
    )
    added = ask("member", "add", "--config", leader.file, "node3", *here)
    assert (added.returncode, added.stdout.splitlines()[-1:]) == (0, ["node3 votes"]), added
    assert (
        "node3 is a member of the cluster already"
        in ask("member", "add", "--config", leader.file, "node3", *here).stderr
    )
    assert ask("member", "list", "--config", follower.file).stdout.count(" votes\n") == 4
    # Nobody else's files know of it, and all count it in.
    until(lambda: cluster.newest_version() > 0 and leader.lineage()[-1].updates == 4, "a round of four", within_s=60.0)
    cluster.wait_version(cluster.newest_version() + 1)
    cluster.check_rounds(joined.lineage())

    leader = cluster.wait_leader()
    removed = ask("member", "remove", "--config", leader.file, leader.name)
    assert (removed.returncode, removed.stdout) == (0, f"{leader.name} is no member any more; stop it\n"), removed
    others = [node for node in cluster.running if node is not leader]
    cluster.wait_leader(others, other_than=leader)
    until(lambda: leader.waits_for("node", "no member of the cluster"), "the removed one says so")
    assert (status := leader.status()) is not None
    assert not status.ready
    version = max(len(node.lineage()) for node in others)
    until(lambda: all(len(node.lineage()) > version for node in others), "rounds go on without it", within_s=60.0)
    assert others[0].lineage()[-1].updates == 3
    assert leader.stop() == 0
