"""Five machines: systemd-nspawn guests with overlays over one root file system, on one bridge."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

CGROUPS = Path("/sys/fs/cgroup")
CACHE = Path(__file__).parents[2] / ".system"
"""Where the images and packages of these tests are kept, and the guests' disks while they run."""
BRIDGE = "p2pfl"
SUBNET = "10.77.0"
CONTROL = f"{SUBNET}.1"
T = TypeVar("T")


def sh(*command: str | Path, given: str | None = None, check: bool = True) -> str:
    """Run a command of the machine that hosts the guests; return its output."""
    done = subprocess.run(list(map(str, command)), input=given, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def until(condition: Callable[[], T | None], what: str, within_s: float) -> T:
    """Return the condition's first true value; fails, saying ``what``, after ``within_s`` seconds."""
    end = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() >= end:
            raise AssertionError(f"not within {within_s:g} s: {what}; last seen: {value!r}")
        time.sleep(0.1)
    return value


def remove_cgroups() -> None:
    """Remove what the guests' systemd made in every hierarchy, from the innermost on."""
    for top in [*CGROUPS.glob("*/p2pfl-system"), CGROUPS / "p2pfl-system"]:
        folders = sorted(top.rglob("*"), reverse=True) if top.is_dir() else []
        for folder in [*(path for path in folders if path.is_dir()), top]:
            with contextlib.suppress(OSError):
                folder.rmdir()


class Guest:
    """One machine: its disk, its place in the network, and its life."""

    def __init__(self, number: int, rootfs: Path, folder: Path, count: int) -> None:
        self.name = f"node{number}"
        self.address = f"{SUBNET}.{10 + number}"
        self._rootfs = rootfs
        self._folder = folder / self.name
        self._count = count
        self._port = f"p2pfl{number}"
        self._process: subprocess.Popen[bytes] | None = None
        self.binds: list[str] = []
        """Of nspawn, such as ``--bind=/host:/guest``."""

    def plug_in(self) -> None:
        """Make its network namespace and its port of the bridge; they outlive a power loss, as a switch's port does."""
        sh("ip", "netns", "add", self.name)
        sh("ip", "link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        sh("ip", "link", "set", self._port, "master", BRIDGE, "up")
        sh("ip", "-n", self.name, "link", "set", "lo", "up")
        sh("ip", "-n", self.name, "address", "add", f"{self.address}/24", "dev", "eth0")
        sh("ip", "-n", self.name, "link", "set", "eth0", "up")
        sh("ip", "-n", self.name, "route", "add", "default", "via", CONTROL)

    def make_disk(self) -> None:
        """Make an empty disk over the root file system, with a name and an identity of its own."""
        for part in ("upper/etc", "work", "root"):
            (self._folder / part).mkdir(parents=True)
        etc = self._folder / "upper/etc"
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        hosts = "".join(f"{SUBNET}.{10 + number} node{number}\n" for number in range(1, self._count + 1))
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")

    def boot(self) -> None:
        """Switch it on."""
        launch = Path(__file__).with_name("launch")
        with (self._folder / "console.log").open("ab") as console:
            places = [str(self._rootfs), str(self._folder), f"/run/netns/{self.name}"]
            self._process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", str(launch), self.name, *places, *self.binds],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )

    def wait_up(self) -> None:
        """Wait until its systemd has started all that is enabled."""
        until(lambda: self.init is not None, f"{self.name} has an init", 20)
        until(lambda: self._state() in {"running", "degraded"}, f"{self.name} is up", 40)

    def _state(self) -> str:
        return sh(*self._enter(), "systemctl", "is-system-running", check=False).strip()

    @property
    def init(self) -> int | None:
        """The process that is PID 1 inside, as this machine numbers it."""
        if self._process is None:
            return None
        found = sh("pgrep", "-o", "-P", str(self._process.pid), check=False).split()
        try:
            return int(found[0]) if found and "systemd" in Path(f"/proc/{found[0]}/comm").read_text() else None
        except OSError:
            return None  # a helper of nspawn's, which has ended since

    def power_off(self) -> None:
        """Cut its power: its init is killed, and with it all of its processes."""
        init, process = self.init, self._process
        if process is not None:
            os.kill(process.pid if init is None else init, signal.SIGKILL)
            process.wait(20)
        self._process = None

    def replace(self) -> None:
        """Put a new machine with an empty disk in the place of one that is switched off."""
        sh("rm", "-rf", self._folder)
        self.make_disk()
        self.boot()
        self.wait_up()

    def _enter(self) -> list[str]:
        return ["nsenter", "-t", str(self.init), "-m", "-u", "-i", "-n", "-p", "-C", "--"]

    def run(self, script: str, *, check: bool = True) -> str:
        """Run a script as a unit of the guest's own PID 1, with no more rights than the guest has."""
        unit = ["systemd-run", "--quiet", "--wait", "--collect", "--pipe", "--setenv=HOME=/root", "/bin/bash", "-eu"]
        return sh(*self._enter(), *unit, given=script, check=check)

    def can_connect(self, target: "str | Guest", port: int) -> bool:
        """Tell whether TCP to a port of another machine is answered."""
        address = target.address if isinstance(target, Guest) else target
        return "open" in self.run(f"nc -z -w 2 {address} {port} && echo open || true")


class Lab:
    """The bridge and what is plugged into it. To be used in network and mount namespaces of its own."""

    def __init__(self, rootfs: Path, folder: Path, count: int = 5) -> None:
        self.guests = [Guest(number, rootfs, folder, count) for number in range(1, count + 1)]

    def up(self) -> float:
        """Boot all guests; return the seconds until all are up."""
        Path("/run/netns").mkdir(exist_ok=True)
        sh("mount", "-t", "tmpfs", "tmpfs", "/run/netns")
        sh("ip", "link", "set", "lo", "up")
        sh("ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
        sh("ip", "address", "add", f"{CONTROL}/24", "dev", BRIDGE)
        sh("ip", "link", "set", BRIDGE, "up")
        for guest in self.guests:
            guest.plug_in()
            guest.make_disk()
        begin = time.monotonic()
        for guest in self.guests:
            guest.boot()
        for guest in self.guests:
            guest.wait_up()
        return time.monotonic() - begin

    def down(self) -> None:
        """Cut the power of all."""
        for guest in self.guests:
            guest.power_off()

    def part(self, one: Sequence[Guest], other: Sequence[Guest]) -> None:
        """Let nothing through the bridge between two sides."""
        left, right = (", ".join(guest.address for guest in side) for side in (one, other))
        rules = "".join(
            f"add rule bridge parted forward ip saddr {{ {a} }} ip daddr {{ {b} }} drop\n"
            for a, b in ((left, right), (right, left))
        )
        chain = "add chain bridge parted forward { type filter hook forward priority 0; policy accept; }\n"
        sh("nft", "-f", "-", given=f"add table bridge parted\n{chain}{rules}")

    def heal(self) -> None:
        """End the partition."""
        sh("nft", "delete", "table", "bridge", "parted")
