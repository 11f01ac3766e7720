"""The five guests, for all system tests together: a test finds them as the one before has left them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import repository
from tests.system.cluster import Cluster
from tests.system.control import Control
from tests.system.guests import CACHE, Lab, sh

ORDER = ("test_unit_file", "test_provisioning", "test_failures", "test_operations")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the system tests, unless ``make test-system`` has made them a place; there they run in their order."""
    if os.environ.get("P2PFL_SYSTEM_TESTS") == "1":
        items.sort(key=lambda item: ORDER.index(item.path.stem))
        return
    for item in items:
        if Path(__file__).parent in item.path.parents and item.path.name != "test_unit_file.py":
            item.add_marker(pytest.mark.skip(reason="needs root and guests of its own: make test-system"))


@pytest.fixture(scope="session")
def disks() -> Iterator[Path]:
    """A folder for the guests' disks. Not in /tmp: an overlay's upper folder may not be on another overlay."""
    folder = CACHE / "disks"
    sh("rm", "-rf", folder)
    folder.mkdir(parents=True)
    yield folder
    sh("rm", "-rf", folder)


@pytest.fixture(scope="session")
def lab(disks: Path) -> Iterator[Lab]:
    """Five booted guests, and the repository that they reach."""
    lab = Lab(CACHE / "rootfs", disks)
    # What a test of a full disk fills must be small, and not the disk of this machine.
    small = small_disk(disks)
    lab.guests[4].binds = [f"--bind={small}:/var/lib/p2pfl-node"]
    try:
        print(f"\nfive guests are up after {lab.up():.1f} s")
        with repository.served(CACHE / "repository"):
            yield lab
    finally:
        lab.down()
        sh("umount", small)


def small_disk(disks: Path) -> Path:
    """Make a file system of 96 MB, and return where it is mounted (in this run's own mount namespace)."""
    image, place = disks / "small.img", disks / "small"
    place.mkdir()
    sh("truncate", "--size", "96M", image)
    sh("mkfs.ext4", "-q", image)
    sh("mount", "-o", "loop", image, place)
    return place


@pytest.fixture(scope="session")
def cluster(lab: Lab) -> Cluster:
    """The appliance on the guests."""
    return Cluster(lab.guests)


@pytest.fixture(scope="session")
def control(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Control:
    """The machine that the playbooks run on."""
    return Control(lab.guests, tmp_path_factory.mktemp("control"))
