"""A ready cluster on disk: authority, and for each node its configuration, identity and state folder.

    DIR/ca/ca.pem, ca.key, issued/
    DIR/node0/node.toml, tls/ca.pem, tls/node.pem, tls/node.key, state/

It is built in a hidden folder beside DIR and renamed at the end: DIR is whole or is not there.
"""

import os
import re
import shutil
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.node import config, template
from appliance.node.config import Config
from appliance.pki.authority import Authority, certificate_pem, key_pem, new_key
from appliance.pki.registry import Registry
from appliance.storage.files import fsync_folder, write_atomically
from appliance.words.errors import OperatorError
from appliance.words.ids import NodeName
from appliance.words.settings import (
    Aggregation,
    Cluster,
    Consensus,
    Data,
    Delivery,
    Envelopes,
    Identity,
    Member,
    Operator,
    Rounds,
    Task,
    Training,
)

_PORTS_PER_NODE = 10
_LAST_PORT = 65535
_PUBLIC, _PRIVATE = 0o644, 0o600
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ClusterPlan(Struct, frozen=True, kw_only=True):
    """What cluster to make.

    Attributes:
        nodes: how many; they are called node0, node1 and so on.
        hosts: one address for all nodes, or one for each.
        base_port: node i gets it plus 10*i for the mesh, one more for consensus, one more for the operator API.
        name: the cluster's.
        data: where the nodes' data comes from. Node i gets shard ``data.shard`` + i of ``data.shards``, or of as
            many as there are nodes, if that is more.
        consensus, rounds, aggregation, task, training, envelopes, delivery: the same on every node.
    """

    nodes: int = 5
    hosts: tuple[str, ...] = ("127.0.0.1",)
    base_port: int = 7000
    name: str = "p2pfl"
    data: Data = Data()
    consensus: Consensus = Consensus()
    rounds: Rounds = Rounds()
    aggregation: Aggregation = Aggregation()
    task: Task = msgspec.field(default_factory=Task)
    training: Training = Training()
    envelopes: Envelopes = Envelopes()
    delivery: Delivery = Delivery()


def create_cluster(folder: Path, plan: ClusterPlan) -> list[Path]:
    """Make a cluster; returns the configuration file of each node.

    Raises:
        OperatorError: the plan can't work, or the folder holds something already; then nothing was written.
    """
    _check(plan)
    folder = folder.absolute()
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        what = "holds a cluster already" if (folder / "ca").exists() else "exists already and is not an empty folder"
        raise OperatorError(f"{folder}: {what}; nothing was changed, choose another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise OperatorError(f"{folder.parent}: can't be written ({error.strerror}); choose another folder") from None
    try:
        _build(draft, plan)
        # Replaces an empty folder and nothing else; so two at a time can't mix.
        os.rename(draft, folder)
        fsync_folder(folder.parent)
    except OSError as error:
        raise OperatorError(f"{folder}: can't be made ({error.strerror or error}); nothing is left of it") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return [folder / node / "node.toml" for node in _members(plan)]


def _check(plan: ClusterPlan) -> None:
    if plan.nodes < 1:
        raise OperatorError("a cluster has at least one node")
    if len(plan.hosts) not in {1, plan.nodes}:
        raise OperatorError(f"{len(plan.hosts)} hosts are given for {plan.nodes} nodes; give one for all, or one each")
    for host in plan.hosts:
        if not host or host.split() != [host] or host in {"0.0.0.0", "::"}:  # noqa: S104 - to be refused
            raise OperatorError(f"the host {host!r} must be an address or a name at which the other nodes reach it")
    last = plan.base_port + _PORTS_PER_NODE * (plan.nodes - 1) + 2
    if plan.base_port < 1 or last > _LAST_PORT:
        raise OperatorError(f"base port {plan.base_port} would need ports up to {last}; they must be 1 to {_LAST_PORT}")
    if not _NAME.fullmatch(plan.name):
        raise OperatorError(
            f"the cluster name {plan.name!r} must be 1 to 64 letters, digits, dots, hyphens, underlines"
        )


def _members(plan: ClusterPlan) -> dict[NodeName, Member]:
    return {
        f"node{number}": Member(
            host=plan.hosts[number % len(plan.hosts)],
            mesh_port=plan.base_port + _PORTS_PER_NODE * number,
            consensus_port=plan.base_port + _PORTS_PER_NODE * number + 1,
        )
        for number in range(plan.nodes)
    }


def _build(draft: Path, plan: ClusterPlan) -> None:
    authority = Authority.create(plan.name)
    ca = certificate_pem(authority.certificate)
    home = _folder(draft / "ca")
    write_atomically(home / "ca.key", key_pem(authority.key), _PRIVATE)
    write_atomically(home / "ca.pem", ca, _PUBLIC)
    registry = Registry(home, authority)
    members = _members(plan)
    for number, (node, member) in enumerate(members.items()):
        home = _folder(draft / node)
        _folder(home / "state")
        tls = _folder(home / "tls")
        key = new_key()
        write_atomically(tls / "ca.pem", ca, _PUBLIC)
        write_atomically(tls / "node.key", key_pem(key), _PRIVATE)
        certificate = authority.issue(node, key.public_key(), host=member.host)
        registry.record(certificate)
        write_atomically(tls / "node.pem", certificate_pem(certificate), _PUBLIC)
        file = home / "node.toml"
        write_atomically(file, template.render(_config(plan, members, node, number)).encode(), _PUBLIC)
        config.load(file)
        fsync_folder(home)
    fsync_folder(draft)


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700)
    return path


def _config(plan: ClusterPlan, members: dict[NodeName, Member], node: NodeName, number: int) -> Config:
    path = plan.data.path.absolute() if plan.data.path is not None else None
    return Config(
        node=node,
        cluster=Cluster(name=plan.name, members=members),
        identity=Identity(
            ca=Path("tls/ca.pem"),
            certificate=Path("tls/node.pem"),
            private_key=Path("tls/node.key"),
        ),
        state=Path("state"),
        consensus=plan.consensus,
        rounds=plan.rounds,
        aggregation=plan.aggregation,
        task=plan.task,
        training=plan.training,
        data=msgspec.structs.replace(
            plan.data, path=path, shard=plan.data.shard + number, shards=max(plan.data.shards, plan.nodes)
        ),
        envelopes=plan.envelopes,
        delivery=plan.delivery,
        operator=Operator(port=members[node].consensus_port + 1),
    )
