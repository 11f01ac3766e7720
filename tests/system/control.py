"""The control machine, which is the one that hosts the guests: it provisions them by the playbooks, over ssh."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.system.guests import CACHE, Guest, sh
from tests.system.repository import URL, VERSIONS

PLAYBOOKS = Path(__file__).parents[2] / "ansible"
TOOLS = CACHE / "ansible"
USER = "ops"
"""Who may log in to the guests, and there become root by sudo."""
KEY = CACHE / "control-key"


def build() -> None:
    """Install Ansible and ansible-lint in a virtual environment, made once and kept."""
    wanted = "".join((PLAYBOOKS / f"requirements{part}.txt").read_text() for part in ("", "-lint"))
    whole = TOOLS / ".whole"
    if whole.exists() and whole.read_text() == wanted:
        return
    sh("rm", "-rf", TOOLS)
    sh(sys.executable, "-m", "venv", TOOLS)
    sh(TOOLS / "bin/pip", "install", "--quiet", "--requirement", PLAYBOOKS / "requirements-lint.txt")
    whole.write_text(wanted)


class Played(NamedTuple):
    """What came of a playbook."""

    changed: int
    """Tasks that changed something, on all machines together."""
    seconds: float
    output: str


class Control:
    """Runs the playbooks on an inventory of all guests.

    Attributes:
        hosts: what only one of them is told.
        variables, settings: what all are told, and of that the tables of node.toml.
    """

    def __init__(self, guests: Sequence[Guest], folder: Path) -> None:
        self._folder = folder
        self.hosts: dict[str, dict[str, object]] = {
            guest.name: {
                "ansible_host": guest.address,
                "p2pfl_node_data": {"source": "digits", "shard": number, "shards": len(guests)},
            }
            for number, guest in enumerate(guests)
        }
        host_key = (CACHE / "rootfs/etc/ssh/ssh_host_ed25519_key.pub").read_text()
        (folder / "known_hosts").write_text("".join(f"{guest.address} {host_key}" for guest in guests))
        self.variables: dict[str, object] = {
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(KEY),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={folder / 'known_hosts'} -o StrictHostKeyChecking=yes",
            "p2pfl_node_cluster": "p2pfl",
            "p2pfl_node_repository_url": URL,
            "p2pfl_node_repository_key": str(CACHE / "repository/RPM-GPG-KEY-p2pfl-node"),
            "p2pfl_node_version": VERSIONS[0],
            "p2pfl_node_control_command": str(Path(sys.executable).with_name("p2pfl-node")),
            # A guest has the clock of the machine that hosts it, which need not be synchronised.
            "p2pfl_node_require_time_sync": False,
        }

        self.settings: dict[str, dict[str, float]] = {
            "rounds": {"interval_s": 1.0, "deadline_s": 30.0},
            "delivery": {"window_s": 0.5},
        }

    @property
    def kept(self) -> Path:
        """Where the authority, requests and backups are."""
        return self._folder / "p2pfl-node/p2pfl"

    def play(self, playbook: str, **variables: str) -> Played:
        """Run a playbook; fails with its output if it fails on any machine."""
        inventory = self._folder / "hosts.yml"
        variables_of_all = {**self.variables, "p2pfl_node_settings": self.settings}
        inventory.write_text(json.dumps({"p2pfl_node": {"hosts": self.hosts, "vars": variables_of_all}}))
        extra = [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
        begin = time.monotonic()
        done = subprocess.run(
            [TOOLS / "bin/ansible-playbook", "-i", inventory, *extra, playbook],
            cwd=PLAYBOOKS,
            env=_environment(self._folder),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - begin
        assert done.returncode == 0, f"{playbook}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return Played(sum(map(int, re.findall(r"changed=(\d+)", done.stdout))), seconds, done.stdout)

    def lint(self) -> str:
        """Check the playbooks by ansible-lint; return its last line."""
        done = subprocess.run(
            [TOOLS / "bin/ansible-lint", "--nocolor"],
            cwd=PLAYBOOKS,
            env=_environment(self._folder),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr.strip().splitlines()[-1]


def _environment(home: Path) -> dict[str, str]:
    path = f"{TOOLS / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "HOME": str(home), "PATH": path, "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
