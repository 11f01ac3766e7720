"""Members that come and go while the cluster trains, by the steps of docs/operations.md, with real processes."""

import itertools
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from appliance.node import template
from appliance.operator_api.views import NewMember
from appliance.words.settings import Identity, Member, Rounds
from tests.process.cluster import PORTS_PER_NODE, Cluster, NodeProcess, cli, free_base_port, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

LONGEST_ROUND_S = 25.0
"""A dead node costs a round some seconds; the rest is for machines that do much else."""


def ask(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(cli(*arguments), capture_output=True, text=True, timeout=90, check=False)


def members(node: NodeProcess) -> dict[str, dict[str, Member]]:
    """Return what a node says of the members, as scripts read it."""
    return msgspec.json.decode(node.api.get("/v1/members"), type=dict[str, dict[str, Member]])


def new_node(cluster: Cluster, name: str) -> NodeProcess:
    """Make the files of a node that is to join: its own key, a certificate, and where the others are."""
    pattern = cluster["node0"]
    folder = cluster.folder / name
    assert ask("pki", "csr", name, folder / "tls").returncode == 0
    issued = ask(
        "pki", "issue", "--ca", cluster.folder / "ca", "--out", folder / "tls/node.pem", folder / "tls/node.csr"
    )
    assert issued.returncode == 0, issued
    shutil.copy(cluster.folder / "ca" / "ca.pem", folder / "tls" / "ca.pem")
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
        ),
        state=Path("state"),
        operator=msgspec.structs.replace(pattern.config.operator, port=base + 2),
    )
    (folder / "node.toml").write_text(template.render(config))
    return NodeProcess(folder / "node.toml")


def given_files(cluster: Cluster) -> dict[Path, bytes]:
    """Return all that an operator put in place for the nodes that run: configuration, certificates, keys."""
    folders = [node.folder for node in cluster.running]
    return {
        file: file.read_bytes() for folder in folders for file in [folder / "node.toml", *(folder / "tls").iterdir()]
    }


def test_a_node_joins_takes_part_and_the_leader_leaves(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(3))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    before = given_files(cluster)
    joined = cluster.nodes["node3"] = new_node(cluster, "node3")
    joined.start()
    until(
        lambda: joined.waits_for("node", "waiting to be let into the cluster"), "it says that it waits", within_s=60.0
    )

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
    until(lambda: "node3" in members(follower)["voters"], "the others know")
    assert ask("member", "list", "--config", follower.file).stdout.count(" votes\n") == 4
    # Nobody else's files know of it, and all count it in; also who starts again with such a file.
    until(lambda: 4 in [model.updates for model in leader.lineage()], "a round of four", within_s=60.0)
    assert {file: file.read_bytes() for file in before} == before, "adding a node changed a byte on another"
    assert follower.stop() == 0
    version = cluster.newest_version()
    cluster.start(follower.name)
    until(lambda: 4 in [m.updates for m in follower.lineage()[version + 2 :]], "another one", within_s=60.0)
    assert len(members(follower)["voters"]) == 4
    cluster.wait_version(cluster.newest_version() + 1)
    cluster.check_rounds(joined.lineage())

    leader = cluster.wait_leader()
    removed = ask("member", "remove", "--config", leader.file, leader.name)
    assert (removed.returncode, removed.stdout) == (0, f"{leader.name} is no member any more; stop it\n"), removed
    others = [node for node in cluster.running if node is not leader]
    assert leader.name not in members(leader)["voters"], "member remove waits for the commit"
    cluster.wait_leader(others, other_than=leader)
    until(lambda: all(leader.name not in members(node)["voters"] for node in others), "all know that it left")
    until(lambda: leader.waits_for("node", "removed from the cluster"), "the removed one says so")
    assert (status := leader.status()) is not None
    assert (status.ready, status.leader, status.summary) == (False, None, "removed from the cluster")
    version = max(len(node.lineage()) for node in others)
    until(lambda: all(len(node.lineage()) > version for node in others), "rounds go on without it", within_s=60.0)
    until(lambda: others[0].lineage()[-1:] and others[0].lineage()[-1].updates == 3, "rounds of three", within_s=60.0)
    assert leader.stop() == 0


def test_a_node_that_is_added_and_does_not_run_holds_nobody_up(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(3))
    cluster.start()
    leader = cluster.wait_leader()
    leader.api.add_member(NewMember("ghost", "127.0.0.1", base := free_base_port(1), base + 1))
    until(lambda: "ghost" in members(leader)["learners"], "it is to join")
    next(node for node in cluster.running if node is not leader).kill()
    # Two of three that vote: a majority, as it was before.
    cluster.wait_version(cluster.newest_version() + 2)
    removed = ask("member", "remove", "--config", leader.file, "ghost")
    assert (removed.returncode, removed.stdout) == (0, "ghost is no member any more; stop it\n"), removed
    assert set(members(leader)["voters"]) == {"node0", "node1", "node2"}
    peers = {"node0", "node1", "node2"} - {leader.name}
    until(lambda: (status := leader.status()) and set(status.peers) == peers, "it is no peer any more")


@pytest.mark.timeout(300)  # many rounds, on machines that do much else
def test_rounds_go_on_while_members_come_and_go(make_cluster: MakeCluster) -> None:
    """A deadline is ten minutes away: where a round waited for it, the test would end first."""
    cluster = make_cluster(plan(3, rounds=Rounds(interval_s=0.2, deadline_s=600.0)))
    cluster.start()
    leader = cluster.wait_leader()
    cluster.wait_version(1)
    joined = cluster.nodes["node3"] = new_node(cluster, "node3")
    place = joined.config.me
    here = ("--host", place.host, "--mesh-port", str(place.mesh_port), "--consensus-port", str(place.consensus_port))

    def goes_on(when: str) -> None:
        version = cluster.newest_version([leader])
        until(lambda: cluster.newest_version([leader]) >= version + 2, f"rounds {when}", within_s=40.0)
        cluster.check_lineages()

    joined.start()
    assert ask("member", "add", "--config", leader.file, "node3", *here).returncode == 0
    goes_on("with a node that has joined")
    until(lambda: leader.lineage()[-1].updates == 4, "four updates", within_s=60.0)
    joined.kill()
    goes_on("with a member that was killed in the middle of one")
    assert ask("member", "remove", "--config", leader.file, "node3").returncode == 0
    goes_on("without it")
    lineage = leader.lineage()
    cluster.check_rounds(lineage)
    times = [model.committed_at for model in lineage]
    assert max(after - before for before, after in itertools.pairwise(times)) < LONGEST_ROUND_S
