"""A real full disk under a real node: it says so, waits, and goes on with all that was committed. Needs root."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.cluster import NodeProcess, cli, plan
from tests.process.conftest import MakeCluster
from tests.process.systemd import Systemd
from tests.process.waiting import until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="to mount a small file system takes root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let its root mount")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def _fill(disk: Path) -> Path:
    """Leave no byte free on it."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return filler


def _faults(node: NodeProcess) -> list[str]:
    status = node.status()
    return [] if status is None else status.faults


def test_a_node_waits_for_space_and_goes_on(small_disk: Path, make_cluster: MakeCluster, systemd: Systemd) -> None:
    cluster = make_cluster(plan(1))
    node = cluster["node0"]
    node.change(state=small_disk / "state")
    cluster.start()
    cluster.wait_version(2)
    filler = _fill(small_disk)
    # It finishes a training and can't keep the update: a fault that it shows, and lives with.
    until(lambda: any("the disk is full" in fault for fault in _faults(node)), "the fault in its status")
    # To be started again, it must write: a term, a vote. It can't, and waits.
    node.kill()
    node.start({"NOTIFY_SOCKET": str(systemd.path)})
    until(lambda: "this node waits for space" in node.log(), "the node says that its disk is full", within_s=60)
    asked = subprocess.run(cli("status", "--config", node.file), capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert "the disk is full; free some space" in asked.stderr
    assert node.is_running
    filler.unlink()
    until(lambda: "there is space on the disk again" in node.log(), "the node goes on", within_s=60)
    cluster.wait_version(4)
    assert not _faults(node), "mended"
    assert "STOPPING=1" not in systemd.listen(), "systemd would end the node some seconds after that"
    assert node.stop() == 0
    assert "Traceback" not in node.log()
