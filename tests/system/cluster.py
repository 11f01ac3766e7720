"""The appliance on the guests, asked how it is from outside."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tests.system.guests import Guest, until

CONFIGURATION = "/etc/p2pfl-node/node.toml"
PKI = "/etc/p2pfl-node/pki"
STATE = "/var/lib/p2pfl-node"


def say(sentence: str) -> None:
    """Print what a check saw."""
    print(f"\n    {sentence}")


class Cluster:
    """The five nodes."""

    def __init__(self, guests: Sequence[Guest]) -> None:
        self.guests = list(guests)

    def __getitem__(self, name: str) -> Guest:
        return next(guest for guest in self.guests if guest.name == name)

    def others(self, *but: Guest) -> list[Guest]:
        """Return all guests but these."""
        return [guest for guest in self.guests if guest not in but]

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

    def leaders(self) -> dict[int, set[str]]:
        """Return who led each term, as far as the nodes remember, which is since their last start."""
        led: dict[int, set[str]] = defaultdict(set)
        for guest in self.guests:
            for election in json.loads(guest.run("curl -sS http://127.0.0.1:7002/v1/elections")):
                if election["to"] == "leader":
                    led[election["term"]].add(election["node"])
        return led

    def wait_leader(self, among: Sequence[Guest] | None = None, within_s: float = 60.0) -> tuple[Guest, int]:
        """Wait for one leader."""
        return until(lambda: self.leader(among), "one leader", within_s)

    def wait_another(self, among: Sequence[Guest], than: int) -> tuple[Guest, int]:
        """Wait for one leader of a term after that one."""

        def found() -> tuple[Guest, int] | None:
            leader = self.leader(among)
            return leader if leader is not None and leader[1] > than else None

        return until(found, f"a leader of a term after {than}", 60)

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

    def check_kept(self, before: Sequence[str]) -> None:
        """Check that all these models are still there, in their order, and that rounds go on."""
        self.wait_version(len(before))
        assert self.lineage(self.guests[0])[: len(before)] == list(before), "a committed model is lost"

    def journal(self, guest: Guest, *matches: str) -> list[dict[str, Any]]:
        """Return the service's entries of the journal, as it keeps them."""
        said = guest.run(f"journalctl -q -u p2pfl-node -o json --no-pager {' '.join(matches)} || true")
        return [json.loads(line) for line in said.splitlines()]


def show(guest: Guest, *properties: str) -> dict[str, str]:
    """Return properties of the service, as ``systemctl show`` has them."""
    said = guest.run(f"systemctl show p2pfl-node {' '.join(f'-p {name}' for name in properties)}")
    return dict(line.split("=", 1) for line in said.splitlines())
