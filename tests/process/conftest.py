"""Fixtures of the tests with real processes: clusters that are ended whatever happens, and logs when a test fails."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from appliance.node.cluster import ClusterPlan
from tests.process.cluster import Cluster
from tests.process.systemd import Systemd

MakeCluster = Callable[[ClusterPlan], Cluster]

_CLUSTERS = pytest.StashKey[list[Cluster]]()


@pytest.fixture
def make_cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeCluster]:
    """Make clusters that end with the test, however it ends."""
    clusters: list[Cluster] = request.node.stash.setdefault(_CLUSTERS, [])

    def make(plan: ClusterPlan) -> Cluster:
        cluster = Cluster(tmp_path / f"cluster{len(clusters)}", plan)
        clusters.append(cluster)
        return cluster

    try:
        yield make
    finally:
        for cluster in clusters:
            cluster.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show each node's log below a failure."""
    report = yield
    if report.failed and call.when == "call":
        for cluster in item.stash.get(_CLUSTERS, []):
            report.sections.extend(cluster.logs())
    return report


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    listener = Systemd(tmp_path / "notify")
    yield listener
    listener.close()
