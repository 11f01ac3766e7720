"""``make test-system``: checks that this machine can do it, then runs the tests where they leave nothing behind.

That is in network, mount and process namespaces of their own: with the last process of the run, the kernel takes its
bridge, its mounts and its guests away, however the run ended. Only cgroups are left, and removed here.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.system import control, image, repository
from tests.system.guests import CACHE, CGROUPS, remove_cgroups

ROOT = Path(__file__).parents[2]
TOOLS = ("systemd-nspawn", "mmdebstrap", "rpmbuild", "createrepo_c", "gpg", "nft", "ip", "unshare", "checkmodule")
PACKAGES = Path(__file__).with_name("packages.txt")
CANNOT = 77
"""What test suites of the GNU kind exit with when they did not run."""
NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
TRIAL = """\
rm -rf trial
mkdir -p trial/lower trial/upper trial/work trial/root trial/small
trap 'umount trial/root trial/small 2>/dev/null || true; rm -rf trial' EXIT
mount -t overlay overlay -o lowerdir=trial/lower,upperdir=trial/upper,workdir=trial/work trial/root
truncate --size 8M trial/small.img
mkfs.ext4 -q trial/small.img
mount -o loop trial/small.img trial/small
ip link add trial0 type bridge
ip link add trial1 type veth peer name trial2
ip link set trial1 master trial0
nft add table bridge trial
nft add table inet trial
"""
"""What the guests and their network are made of, tried once: so a machine that can't do it says so at the start."""


def main() -> int:
    """Run the system tests; return 77 if this machine can't, pytest's exit status otherwise."""
    # As Ctrl-C does: the run below is killed, and with it its namespaces and all guests.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if problem := _cannot():
        print(f"test-system: {problem}", file=sys.stderr)
        return CANNOT
    # Before the network is shut out: this takes packages of Debian's, and wheels.
    print("test-system: the guests' root file system", flush=True)
    image.build(CACHE)
    print("test-system: Ansible", flush=True)
    control.build()
    print("test-system: two versions of the packages, and their signed repository", flush=True)
    repository.build(CACHE)
    options = ["-v", "-s", "--exitfirst", "--timeout", "900", str(Path(__file__).parent), *sys.argv[1:]]
    tests = [sys.executable, "-m", "pytest", *options]
    try:
        return subprocess.run(
            [*NAMESPACES, *tests], cwd=ROOT, env={**os.environ, "P2PFL_SYSTEM_TESTS": "1"}, check=False
        ).returncode
    finally:
        remove_cgroups()


def _cannot() -> str:
    if os.geteuid() != 0:
        return "guests with systemd need root; run it as root"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        packages = " ".join(PACKAGES.read_text().split())
        return f"{', '.join(missing)} missing; on Debian 12: apt-get install {packages}"
    if not CGROUPS.is_dir():
        return "there is no /sys/fs/cgroup"
    CACHE.mkdir(exist_ok=True)
    tried = subprocess.run(
        [*NAMESPACES, "/bin/sh", "-euc", TRIAL], cwd=CACHE, capture_output=True, text=True, check=False
    )
    if tried.returncode:
        last = (tried.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"this machine lacks what guests need (namespaces, overlays, loop devices, a bridge, nftables): {last}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
