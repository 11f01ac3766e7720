"""``make test-system``: checks that this machine can do it, then runs the tests where they leave nothing behind.

That is in network, mount and process namespaces of their own: with the last process of the run, the kernel takes its
bridge, its mounts and its guests away, however the run ended. Only cgroups are left, and removed here.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.system import control, image, repository
from tests.system.guests import CACHE, CGROUPS, remove_cgroups

ROOT = Path(__file__).parents[2]
TOOLS = ("systemd-nspawn", "mmdebstrap", "rpmbuild", "createrepo_c", "gpg", "nft", "ip", "unshare", "checkmodule")
PACKAGES = Path(__file__).with_name("packages.txt")


def main() -> int:
    """Run the system tests; 2 if this machine can't."""
    if problem := _cannot():
        print(f"test-system: {problem}", file=sys.stderr)
        return 2
    # Before the network is shut out: this takes packages of Debian's, and wheels.
    CACHE.mkdir(exist_ok=True)
    print("test-system: the guests' root file system", flush=True)
    image.build(CACHE)
    print("test-system: Ansible", flush=True)
    control.build()
    print("test-system: two versions of the packages, and their signed repository", flush=True)
    repository.build(CACHE)
    namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    tests = [sys.executable, "-m", "pytest", "-v", "-s", "--timeout", "900", str(Path(__file__).parent), *sys.argv[1:]]
    try:
        return subprocess.run(
            [*namespaces, *tests], cwd=ROOT, env={**os.environ, "P2PFL_SYSTEM_TESTS": "1"}, check=False
        ).returncode
    finally:
        remove_cgroups()


def _cannot() -> str:
    if os.geteuid() != 0:
        return "guests with systemd need root; run it as root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        packages = " ".join(PACKAGES.read_text().split())
        return f"{', '.join(missing)} missing; on Debian 12: apt-get install {packages}"
    if subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], check=False).returncode:
        return "this machine does not let its root make namespaces"
    if not CGROUPS.is_dir():
        return "there is no /sys/fs/cgroup"
    return ""


if __name__ == "__main__":
    sys.exit(main())
