"""A configuration that can't be used: the file, the key and what is allowed, in one sentence."""

import hashlib
from pathlib import Path

import pytest

from appliance.node.config import Config, load
from appliance.words.errors import ConfigurationError, OperatorError
from appliance.words.settings import Aggregation

WHOLE = """\
node = "node1"

[cluster]
name = "c"

[cluster.members]
node0 = { host = "10.0.0.1" }
node1 = { host = "10.0.0.2" }
node2 = { host = "10.0.0.3" }

[identity]
ca = "ca.pem"
certificate = "node.pem"
private_key = "node.key"
"""


def _load(folder: Path, content: str) -> Config:
    file = folder / "node.toml"
    file.write_text(content)
    return load(file)


def _refused(folder: Path, content: str) -> str:
    """Return what is said of a refused file, without the file's name in front."""
    with pytest.raises(ConfigurationError) as refusal:
        _load(folder, content)
    file, _, problem = str(refusal.value).partition(": ")
    assert file == str(folder / "node.toml")
    assert "\n" not in problem
    return problem


def test_a_whole_file_is_read_and_its_paths_resolved(tmp_path: Path) -> None:
    config = _load(
        tmp_path, 'state = "s"\n' + WHOLE + '[data]\nsource = "mnist"\npath = "mnist"\n[training]\ninitial = "m"\n'
    )
    assert config.identity.ca == tmp_path / "ca.pem"
    assert config.state == tmp_path / "s"
    assert config.data.path == tmp_path / "mnist"
    assert config.training.initial == tmp_path / "m"
    assert config.me.host == "10.0.0.2"
    assert config.peers == ("node0", "node2")
    assert config.quorum == 2
    assert config.max_message_bytes == 64 * 2**20


@pytest.mark.parametrize(
    ("strategy", "quorum"), [("mean", 2), ("median", 3), ("trimmed-mean", 3), ("norm-clipping", 3)]
)
def test_the_quorum_is_never_below_what_the_strategy_needs(tmp_path: Path, strategy: str, quorum: int) -> None:
    assert _load(tmp_path, WHOLE + f'[aggregation]\nstrategy = "{strategy}"\n').quorum == quorum


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"none.toml: can't be read \(No such file .*\); give the file with --conf"):
        load(tmp_path / "none.toml")
    with pytest.raises(OperatorError, match="can't be read"):
        load(tmp_path)
    (tmp_path / "latin").write_bytes(b'node = "n\xe9"')
    with pytest.raises(OperatorError, match="is not UTF-8 text"):
        load(tmp_path / "latin")


@pytest.mark.parametrize(
    ("addition", "problem"),
    [
        ("[consensus]\nperiod = 5\n", "consensus.period: is no key here; did you mean period_s?"),
        ("[rounds]\nqorum = 2\n", "rounds.qorum: is no key here; did you mean quorum?"),
        ("[operator]\nxyz = 2\n", "operator.xyz: is no key here; allowed are host, port"),
        ("[trainig]\n", "trainig: is no key here; did you mean training?"),
        ("[rounds]\ndeadline_s = '9'\n", "rounds.deadline_s: must be a number, and is a text in quotes"),
        ("[rounds]\nquorum = 1.5\n", "rounds.quorum: must be a whole number, and is a number"),
        ("[rounds]\nquorum = 0\n", "rounds.quorum: must be a whole number >= 1"),
        ("[rounds]\ndeadline_s = 0\n", "rounds.deadline_s: must be a number > 0.0"),
        ("[rounds]\ndeadline_s = nan\n", "rounds.deadline_s: must be a number > 0.0"),
        ("[rounds]\ndeadline_s = inf\n", "rounds.deadline_s: is inf, and must be at most 1e+09"),
        ("[consensus]\nperiod_s = 1e10\n", "consensus.period_s: is 1e+10, and must be at most 1e+09"),
        ('[training]\nhours = "22:00-06:00"\n', "training.hours: must be a list, and is a text in quotes"),
        ("[training]\nhours = [22]\n", "training.hours[0]: must be a text in quotes, and is a whole number"),
        ("[training]\ncheckpoint_s = -1.0\n", "training.checkpoint_s: must be a number >= 0.0"),
        ("[operator]\nport = 70000\n", "operator.port: must be a whole number <= 65535"),
        ("[data]\nsource = 'xml'\n", 'data.source: must be one of "digits", "mnist", "csv"'),
        ("[data]\nsource = 'csv'\n", "data.path: is missing; source csv needs the file"),
        ("[task]\nname = 3\n", "task.name: must be a text in quotes, and is a whole number"),
        ("[envelopes]\nrsa_bits = 1024\n", "envelopes.rsa_bits: must be one of 2048, 3072, 4096"),
        (
            "[aggregation]\nstrategy = 'bulyan'\n",
            'aggregation.strategy: must be one of "mean", "median", "trimmed-mean", "krum", "norm-clipping", '
            '"fedavgm", "fedadam", "fedyogi"',
        ),
        ("[aggregation]\nattackers = 0\n", "aggregation.attackers: must be a whole number >= 1"),
        ("[aggregation]\nmost_samples = 0\n", "aggregation.most_samples: must be a whole number >= 1"),
        ("[aggregation]\nmomentum = 1\n", "aggregation.momentum: must be a number < 1.0"),
        ("[aggregation]\nsecond_momentum = -0.1\n", "aggregation.second_momentum: must be a number >= 0.0"),
        ("[aggregation]\ntau = 0\n", "aggregation.tau: must be a number >= 1e-09"),
        ("[aggregation]\nserver_learning_rate = 0\n", "aggregation.server_learning_rate: must be a number > 0.0"),
        ("[aggregation]\nmost_drop = 1.5\n", "aggregation.most_drop: must be a number <= 1.0"),
        ("[aggregation]\nmost_drop = nan\n", "aggregation.most_drop: must be a number >= 0.0"),
        ("[models]\nkeep = 1\n", "models.keep: must be a whole number >= 2"),
        ("[models]\nkeep_every = -1\n", "models.keep_every: must be a whole number >= 0"),
        ("[models]\nkeep_old = 0\n", "models.keep_old: must be a whole number >= 1"),
        ("[models]\nkept = 9\n", "models.kept: is no key here; did you mean keep?"),
        ("[logging]\nlevel = 'all'\n", 'logging.level: must be one of "debug", "info", "warning", "error"'),
        ("[data]\npath = 3\n", "data.path: must be a path, and is 3"),
        ("[data]\npath = [3]\n", "data.path: must be a path, and is a list"),
        pytest.param(
            f"[data]\npath{'.a' * 20_000} = 3\n", "data.path: must be a path, and is a table", id="deep-table"
        ),
        pytest.param(
            f"[rounds]\nquorum = 0x{'f' * 6000}\n",
            "rounds.quorum: must be a whole number <= 9223372036854775807",
            id="long-hexadecimal",
        ),
        ("[training]\nseed = 9223372036854775808\n", "training.seed: must be a whole number <= 9223372036854775807"),
    ],
)
def test_a_key_that_is_wrong_by_itself(tmp_path: Path, addition: str, problem: str) -> None:
    assert _refused(tmp_path, WHOLE + addition) == problem


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param("[" * 5000 + "]" * 5000, "hundreds of lists or tables in one another", id="lists"),
        pytest.param("[" * 5000, "hundreds of lists or tables in one another", id="lists-without-end"),
        pytest.param("{a = " * 5000 + "1" + "}" * 5000, "hundreds of lists or tables in one another", id="tables"),
        pytest.param("9" * 5000, "a number of thousands of digits", id="digits"),
    ],
)
def test_what_the_parser_of_toml_cannot_bear_is_one_sentence_too(tmp_path: Path, value: str, problem: str) -> None:
    assert _refused(tmp_path, f"seed = {value}\n{WHOLE}") == f"is not valid TOML: {problem}"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('node = "node1"\n', "", "node: is missing"),
        ('name = "c"\n', "", "cluster.name: is missing"),
        ('ca = "ca.pem"\n', "", "identity.ca: is missing"),
        ('host = "10.0.0.3"', "", "cluster.members.node2.host: is missing"),
        ('host = "10.0.0.3"', 'hots = "10.0.0.3"', "cluster.members.node2.hots: is no key here; did you mean host?"),
        (
            'host = "10.0.0.3"',
            "host = 3",
            "cluster.members.node2.host: must be a text in quotes, and is a whole number",
        ),
        (
            'host = "10.0.0.3"',
            'host = "two words"',
            "cluster.members.node2.host: must be an IP address or a host's name",
        ),
        ('name = "c"', 'name = "c"\njoin = 1', "cluster.join: must be true or false, and is a whole number"),
        (
            "node2 = {",
            "Node_2 = {",
            "cluster.members: a node's name is 1 to 63 small letters, digits, dots and hyphens",
        ),
        ('node = "node1"', 'node = "Node 1"', "node: a node's name is 1 to 63 small letters, digits, dots and hyphens"),
        ('node = "node1"', "node = 1", "node: must be a text in quotes, and is a whole number"),
        ('node = "node1"', 'node = "node7"', "node: node7 is not among cluster.members (node0, node1, node2)"),
        ('node = "node1"', 'node = "node1', "is not valid TOML: "),
        ('name = "c"', 'name = "two words"', "cluster.name: must be a text in quotes matching regex"),
        ('host = "10.0.0.3"', 'host = "10.0.0.2"', "cluster.members.node2.mesh_port: 10.0.0.2:7000 is node1's already"),
        (
            'host = "10.0.0.3"',
            'host = "10.0.0.2", mesh_port = 7010',
            "cluster.members.node2.consensus_port: 10.0.0.2:7001 is node1's already",
        ),
    ],
)
def test_a_part_that_is_missing_or_another(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in WHOLE
    assert _refused(tmp_path, WHOLE.replace(old, new)).startswith(problem)


@pytest.mark.parametrize(
    ("addition", "problem"),
    [
        ("[rounds]\nquorum = 4\n", "rounds.quorum: is 4, and the cluster has only 3 members"),
        (
            "[aggregation]\nstrategy = 'krum'\n",
            "aggregation.strategy: krum needs 5 updates to bear aggregation.attackers (1), and the cluster has only 3 ",
        ),
        (
            "[aggregation]\nstrategy = 'trimmed-mean'\nattackers = 2\n",
            "aggregation.strategy: trimmed-mean needs 5 updates to bear aggregation.attackers (2), and the cluster has",
        ),
        (
            "[rounds]\nquorum = 2\n[aggregation]\nstrategy = 'median'\n",
            "rounds.quorum: is 2, and median needs 3 updates to bear aggregation.attackers (1)",
        ),
        (
            "[aggregation]\nmomentum = 0.5\n",
            "aggregation.momentum: has no effect on mean: remove it, or change the strategy",
        ),
        (
            "[aggregation]\nstrategy = 'fedavgm'\nmomentum = 0.5\ntau = 0.1\n",
            "aggregation.tau: has no effect on fedavgm: remove it, or change the strategy",
        ),
        (
            "[aggregation]\nstrategy = 'fedadam'\nserver_learning_rate = inf\n",
            "aggregation.server_learning_rate: is inf, and must be at most 1e+09",
        ),
        (
            "[consensus]\nheartbeat_interval_s = 0.2\n",
            "consensus.election_timeout_s: is 0.5 s, and must be at least three heartbeats (0.6 s)",
        ),
        ("[consensus]\nperiod_s = 4\n", "consensus.period_s: must be at least ten election timeouts (5 s)"),
        ("[data]\nshard = 5\nshards = 5\n", "data.shard: is 5, and must be below data.shards (5)"),
        ("[data]\nsource = 'mnist'\n", "data.path: is missing; source mnist needs the folder that holds MNIST/raw"),
        ('[training]\nhours = ["22-6"]\n', 'training.hours: "22-6" must look like "22:00-06:00" (each day)'),
        ('[training]\nhours = ["06:00-06:00"]\n', 'training.hours: "06:00-06:00" begins when it ends'),
        ("[operator]\nport = 7000\n", "operator.port: is 7000, the same as this node's mesh port"),
    ],
)
def test_keys_that_do_not_fit_together(tmp_path: Path, addition: str, problem: str) -> None:
    assert _refused(tmp_path, WHOLE + addition).startswith(problem)


def test_server_optimizers_have_defaults_and_take_their_keys(tmp_path: Path) -> None:
    def aggregation(text: str) -> Aggregation:
        (tmp_path / "node.toml").write_text(f"{WHOLE}[aggregation]\n{text}")
        return load(tmp_path / "node.toml").aggregation

    assert aggregation('strategy = "fedavgm"\nmomentum = 0\nserver_learning_rate = 0.5\n').server_step == 0.5
    adam = aggregation('strategy = "fedadam"\n')
    assert (adam.server_step, adam.momentum, adam.second_momentum, adam.tau) == (0.01, 0.9, 0.99, 1e-3)
    assert aggregation('strategy = "fedyogi"\nsecond_momentum = 0.999\ntau = 0.01\nmomentum = 0.8\n').unused == ()


def test_who_joins_knows_others_that_it_can_join(tmp_path: Path) -> None:
    joins = WHOLE.replace('name = "c"', 'name = "c"\njoin = true')
    (tmp_path / "node.toml").write_text(joins)
    assert load(tmp_path / "node.toml").cluster.join
    alone = "".join(line + "\n" for line in joins.splitlines() if not line.startswith(("node0 = {", "node2 = {")))
    assert _refused(tmp_path, alone).startswith("cluster.join: is true, and cluster.members names no other node")
    raftos = joins + '[consensus]\nengine = "raftos"\n'
    assert _refused(tmp_path, raftos) == "cluster.join: is true, and the engine raftos knows no nodes that join"


def test_a_cluster_that_consensus_can_not_write_down_is_refused(tmp_path: Path) -> None:
    def with_members(count: int) -> str:
        names = [f"n{hashlib.sha256(bytes([number])).hexdigest()[:40]}" for number in range(count)]
        more = "".join(f'{name} = {{ host = "{name}.example" }}\n' for name in names)
        return WHOLE.replace('node2 = { host = "10.0.0.3" }\n', more)

    assert len(_load(tmp_path, with_members(25)).cluster.members) == 27
    problem = _refused(tmp_path, with_members(60))
    assert problem.startswith("cluster.members: the names and addresses of 62 members would take ")
    assert problem.endswith(" bytes, and 1024 are allowed: the cluster is full")
