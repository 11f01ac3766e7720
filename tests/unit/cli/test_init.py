"""``init`` and ``pki``: a cluster that is ready, whole, and never overwritten."""

import stat
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from appliance.cli.main import main
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.node.config import load
from appliance.node.template import render
from appliance.pki.identity import NodeIdentity
from appliance.words.settings import Aggregation, Data, Rounds, Training


def _init(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["init", *(str(argument) for argument in arguments)])


def _pki(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["pki", *(str(argument) for argument in arguments)])


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_every_node_of_a_new_cluster_is_ready(tmp_path: Path, nodes: int) -> None:
    result = _init(tmp_path / "fresh" / "c", "--nodes", nodes, "--base-port", 9000)
    assert result.exit_code == 0, result.output
    assert f"--config {tmp_path}/fresh/c/node0/node.toml" in result.output
    configs = [load(tmp_path / "fresh" / "c" / f"node{number}" / "node.toml") for number in range(nodes)]
    for number, config in enumerate(configs):
        assert config.node == f"node{number}"
        assert config.cluster == configs[0].cluster
        assert (config.me.mesh_port, config.me.consensus_port) == (9000 + 10 * number, 9001 + 10 * number)
        assert config.operator.port == 9002 + 10 * number
        assert (config.data.source, config.data.shard, config.data.shards) == ("digits", number, nodes)
        assert config.state.is_dir()
        NodeIdentity.load(config.identity, config.node)


def test_only_the_owner_can_read_what_is_secret(tmp_path: Path) -> None:
    _init(tmp_path / "c", "--nodes", 2)
    secret = {"ca.key", "node.key"}
    found = [path for path in (tmp_path / "c").rglob("*") if path.name in secret]
    assert len(found) == 3
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in found)
    assert stat.S_IMODE((tmp_path / "c" / "node0" / "state").stat().st_mode) == 0o700


def test_an_existing_cluster_is_never_touched(tmp_path: Path) -> None:
    _init(tmp_path / "c", "--nodes", 1)
    before = _contents(tmp_path)
    result = _init(tmp_path / "c", "--nodes", 2)
    assert result.exit_code == 1
    assert (
        result.stderr == f"Error: {tmp_path}/c: holds a cluster already; nothing was changed, choose another folder\n"
    )
    assert _contents(tmp_path) == before


def test_a_folder_with_anything_in_it_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    for name in ("full", "full/thesis.txt"):
        result = _init(tmp_path / name)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert "not an empty folder" in result.stderr
    (tmp_path / "empty").mkdir()
    assert _init(tmp_path / "empty", "--nodes", 1).exit_code == 0


def test_an_interrupted_init_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_config: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("appliance.node.template.render", interrupt)
    with pytest.raises(KeyboardInterrupt):
        create_cluster(tmp_path / "c", ClusterPlan())
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("appliance.node.cluster.os.rename", refuse)
    result = _init(tmp_path / "c")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "No space left" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_data_and_hosts_are_written_as_given(tmp_path: Path) -> None:
    folder = tmp_path / 'da"ta \\ ü'
    hosts = [f"--host=10.0.0.{number}" for number in range(3)]
    result = _init(tmp_path / "c", "--nodes", 3, *hosts, f"--data=mnist:{folder}", "--alpha", 0.3, "--seed", 7)
    assert result.exit_code == 0, result.output
    config = load(tmp_path / "c" / "node2" / "node.toml")
    assert config.me.host == "10.0.0.2"
    assert config.data == Data(source="mnist", path=folder, shard=2, shards=3, alpha=0.3, seed=7)


def test_a_cluster_may_take_only_some_of_the_shards(tmp_path: Path) -> None:
    files = create_cluster(tmp_path / "c", ClusterPlan(nodes=2, data=Data(shard=3, shards=10)))
    assert [(load(file).data.shard, load(file).data.shards) for file in files] == [(3, 10), (4, 10)]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--nodes", "0"], 2),
        (["--data", "csv"], 2),
        (["--data", "mnist:"], 2),
        (["--alpha", "0"], 2),
        (["--base-port", "65500"], 1),
        (["--host", "10.0.0.1", "--host", "10.0.0.2"], 1),
        (["--host", "0.0.0.0"], 1),  # noqa: S104 - to be refused
        (["--cluster", "two words"], 1),
    ],
)
def test_a_plan_that_can_not_work_is_refused(tmp_path: Path, arguments: list[str], code: int) -> None:
    result = _init(tmp_path / "c", *arguments)
    assert result.exit_code == code
    assert "Error: " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_rendered_configuration_reads_back_as_it_was(tmp_path: Path) -> None:
    training = Training(learning_rate=1e-5, hours=("22:00-06:00", "Sat-Sun 00:00-24:00"))
    plan = ClusterPlan(nodes=2, rounds=Rounds(interval_s=0.5, quorum=2), training=training)
    file = create_cluster(tmp_path / "c", plan)[1]
    config = load(file)
    assert (config.rounds, config.training) == (plan.rounds, plan.training)
    again = tmp_path / "again.toml"
    again.write_text(render(config))
    assert load(again) == config


def test_the_strategy_is_in_the_file_only_where_it_was_chosen(tmp_path: Path) -> None:
    config = load(create_cluster(tmp_path / "c", ClusterPlan(nodes=5))[0])
    assert "aggregation" not in render(config)
    chosen = msgspec.structs.replace(config, aggregation=Aggregation("krum"))
    again = tmp_path / "again.toml"
    again.write_text(render(chosen))
    assert '[aggregation]\nstrategy = "krum"\n' in again.read_text()
    assert load(again) == chosen


def test_a_new_nodes_certificate_comes_from_a_request(tmp_path: Path) -> None:
    _init(tmp_path / "c", "--nodes", 1)
    assert _pki("csr", "node1", tmp_path / "new").exit_code == 0
    assert stat.S_IMODE((tmp_path / "new" / "node.key").stat().st_mode) == 0o600
    issue = ["issue", "--ca", tmp_path / "c" / "ca", tmp_path / "new" / "node.csr"]
    result = _pki(*issue)
    assert result.exit_code == 0, result.output
    assert "node1, valid until" in result.output
    before = _contents(tmp_path)
    for again in (_pki(*issue), _pki("csr", "node1", tmp_path / "new")):
        assert (again.exit_code, again.stderr.count("\n")) == (1, 1)
        assert "never overwritten" in again.stderr
    assert _contents(tmp_path) == before
    shown = _pki("show", "--config", tmp_path / "c" / "node0" / "node.toml")
    assert "authority of p2pfl: valid until" in shown.output
    assert "node0: valid until" in shown.output


def test_an_authority_whose_key_others_can_read_issues_nothing(tmp_path: Path) -> None:
    create_cluster(tmp_path / "c", ClusterPlan(nodes=1))
    (tmp_path / "c" / "ca" / "ca.key").chmod(0o644)
    _pki("csr", "node1", tmp_path / "new")
    result = _pki("issue", "--ca", tmp_path / "c" / "ca", tmp_path / "new" / "node.csr")
    assert result.exit_code == 1
    assert "chmod 600" in result.stderr
    assert not (tmp_path / "new" / "node.pem").exists()


def test_a_name_that_is_none_leaves_no_key(tmp_path: Path) -> None:
    assert _pki("csr", "10.0.0.1", tmp_path / "new").exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_renewal_takes_the_place_of_the_request_that_was_answered_and_of_no_other_renewal(tmp_path: Path) -> None:
    create_cluster(tmp_path / "c", ClusterPlan(nodes=1))
    file, tls = tmp_path / "c/node0/node.toml", tmp_path / "c/node0/tls"
    (tls / "node.csr").write_text("answered long ago")
    assert _pki("renew", "--config", file).exit_code == 0
    fresh = (tls / "node.csr").read_bytes()
    assert fresh.startswith(b"-----BEGIN CERTIFICATE REQUEST")
    again = _pki("renew", "--config", file)
    assert again.exit_code == 1
    assert "node.key.new: exists already" in again.stderr
    assert (tls / "node.csr").read_bytes() == fresh
