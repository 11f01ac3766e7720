"""``p2pfl-node reload`` and SIGHUP on a real node: what can change does, and a bad file changes nothing."""

import signal
import subprocess

import msgspec

from appliance.words.settings import Rounds
from tests.process.cluster import NodeProcess, cli, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until


def _reload(node: NodeProcess) -> subprocess.CompletedProcess[str]:
    command = cli("reload", "--config", node.file)
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_running_node_takes_what_can_change(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(plan(1, rounds=Rounds(interval_s=3600.0)))
    node = cluster["node0"]
    cluster.start()
    cluster.wait_version(1)

    quick = msgspec.structs.replace(node.config.rounds, interval_s=0.1)
    timing = msgspec.structs.replace(node.config.consensus, period_s=500.0)
    node.change(rounds=quick, consensus=timing)
    answer = _reload(node)
    assert (answer.returncode, answer.stdout) == (0, "rounds.interval_s: 3600.0 -> 0.1\n"), answer.stderr
    assert answer.stderr.startswith("consensus.period_s: takes effect when the node starts again")
    assert "reload: rounds.interval_s: 3600.0 -> 0.1" in node.log()

    good = node.file.read_text()
    node.file.write_text(good.replace("[rounds]", "[rounds]\nintervall_s = 1"))
    refused = _reload(node)
    assert refused.returncode == 1
    assert "intervall_s: is no key here; did you mean interval_s?" in refused.stderr
    node.signal(signal.SIGHUP)
    until(lambda: "the configuration in force stays" in node.log(), "SIGHUP is heeded, and the file refused")
    node.file.write_text(good)
    node.signal(signal.SIGHUP)
    until(lambda: node.log().count("consensus.period_s differs in the file") >= 1, "SIGHUP is heeded")
    assert node.stop() == 0
    assert "Traceback" not in node.log()
