"""The appliance on the guests: installed from the repository, configured, started, and asked how it is."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.system.guests import Guest, sh, until
from tests.system.repository import URL, VERSIONS

CONFIGURATION = "/etc/p2pfl-node/node.toml"
PKI = "/etc/p2pfl-node/pki"


class Cluster:
    """The five nodes; the authority lies on the machine that hosts the guests."""

    def __init__(self, guests: Sequence[Guest], authority: Path) -> None:
        self.guests = list(guests)
        self._authority = authority

    def __getitem__(self, name: str) -> Guest:
        return next(guest for guest in self.guests if guest.name == name)

    # --- provisioning -------------------------------------------------------------------------------------------------

    def create_authority(self) -> None:
        """Make the certificate authority."""
        _p2pfl("pki", "create", "p2pfl", self._authority)

    def install(self, guest: Guest) -> None:
        """``dnf install p2pfl-node``, with signatures checked."""
        guest.run(f"""
            curl -sS {URL}/p2pfl-node.repo >/etc/yum.repos.d/p2pfl-node.repo
            rpm --import {URL}/RPM-GPG-KEY-p2pfl-node
            dnf install -y -q el8-provides p2pfl-node-{VERSIONS[0]}
        """)

    def enrol(self, guest: Guest) -> None:
        """Have the node make its key, and bring it the certificate; the key never leaves it."""
        guest.run(f"runuser -u p2pfl-node -- p2pfl-node pki csr {guest.name} {PKI}")
        request, certificate = self._authority / f"{guest.name}.csr", self._authority / f"{guest.name}.pem"
        request.write_text(guest.run(f"cat {PKI}/node.csr"))
        issue = ("--ca", self._authority, "--host", guest.address, "--out", certificate)
        _p2pfl("pki", "issue", request, *issue)
        for name, content in (("ca", self._authority / "ca.pem"), ("node", certificate)):
            put(guest, f"{PKI}/{name}.pem", content.read_text())

    def configure(self, guest: Guest) -> None:
        """Write node.toml, open the firewall to the members, and check."""
        members = "".join(f'{other.name} = {{ host = "{other.address}" }}\n' for other in self.guests)
        put(
            guest,
            CONFIGURATION,
            f"""\
node = "{guest.name}"
[cluster]
name = "p2pfl"
[cluster.members]
{members}
[identity]
ca = "{PKI}/ca.pem"
certificate = "{PKI}/node.pem"
private_key = "{PKI}/node.key"
[rounds]
interval_s = 1.0
deadline_s = 30.0
[delivery]
window_s = 0.5
[data]
shard = {self.guests.index(guest)}
shards = {len(self.guests)}
""",
        )
        rules = "".join(
            f"""firewall-cmd -q --permanent --add-rich-rule='rule family="ipv4" source address="{other.address}" """
            f"""port port="{port}" protocol="{protocol}" accept'\n"""
            for other in self.guests
            for port, protocol in ((7000, "tcp"), (7001, "udp"))
            if other is not guest
        )
        guest.run(f"{rules}firewall-cmd -q --reload\nrunuser -u p2pfl-node -- p2pfl-node check")

    # --- its state ----------------------------------------------------------------------------------------------------

    def status(self, guest: Guest) -> dict[str, Any] | None:
        """Return what ``p2pfl-node status --json`` says; None if the node does not answer."""
        said = guest.run("p2pfl-node status --json || true", check=False)
        return dict(json.loads(said)) if said.startswith("{") else None

    def leader(self, among: Sequence[Guest] | None = None) -> tuple[Guest, int] | None:
        """Return the leader, and its term, if all of these follow it."""
        states = [self.status(guest) for guest in among or self.guests]
        seen = {(state["leader"], state["term"]) if state else (None, 0) for state in states}
        (name, term), *others = seen
        return (self[name], term) if name is not None and not others else None

    def wait_leader(self, among: Sequence[Guest] | None = None, within_s: float = 60.0) -> tuple[Guest, int]:
        """Wait for one leader."""
        return until(lambda: self.leader(among), "one leader", within_s)

    def version(self, guest: Guest) -> int:
        """Return the newest committed model's version that the node knows of; -1 if it knows of none."""
        state = self.status(guest)
        return -1 if state is None or state["model"] is None else int(state["model"]["version"])

    def wait_version(self, version: int, among: Sequence[Guest] | None = None, within_s: float = 90.0) -> None:
        """Wait until all of these have at least that version."""
        for guest in among or self.guests:
            until(lambda guest=guest: self.version(guest) >= version, f"version {version} on {guest.name}", within_s)  # type: ignore[misc]

    def lineage(self, guest: Guest) -> list[str]:
        """Return the digests of all committed models, in their order."""
        said = guest.run("curl -sS http://127.0.0.1:7002/v1/lineage")
        return [model["digest"] for model in json.loads(said)]

    def check_lineages(self) -> int:
        """Check that no two nodes disagree on a version; return the length of the shortest lineage."""
        lineages = [self.lineage(guest) for guest in self.guests]
        shortest = min(map(len, lineages))
        assert len({tuple(lineage[:shortest]) for lineage in lineages}) == 1, "two nodes have different models"
        return shortest

    def journal(self, guest: Guest, *matches: str) -> list[dict[str, Any]]:
        """Return the service's entries of the journal, as it keeps them."""
        said = guest.run(f"journalctl -q -u p2pfl-node -o json --no-pager {' '.join(matches)} || true")
        return [json.loads(line) for line in said.splitlines()]


def put(guest: Guest, path: str, content: str) -> None:
    """Write a file on a guest; its owner and mode stay, if it is there."""
    guest.run(f"cat >{path} <<'END_OF_FILE'\n{content}\nEND_OF_FILE\n")


def show(guest: Guest, *properties: str) -> dict[str, str]:
    """Return properties of the service, as ``systemctl show`` has them."""
    said = guest.run(f"systemctl show p2pfl-node {' '.join(f'-p {name}' for name in properties)}")
    return dict(line.split("=", 1) for line in said.splitlines())


def _p2pfl(*arguments: str | Path) -> str:
    return sh(sys.executable, "-m", "appliance.cli.main", *arguments)
