"""Watching a cluster on this machine: waiting with a bound, who leads, and what must never be seen."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

import msgspec

from appliance.local.processes import Cluster, NodeProcess
from appliance.node.elections import Election
from appliance.operator_api.client import NodeApi
from appliance.operator_api.views import Status
from appliance.words.errors import OperatorError
from appliance.words.ids import Digest, NodeName, Term, Version

T = TypeVar("T")

POLL_S = 0.02
WITHIN_S = 120.0


def until(condition: Callable[[], T | None], what: str, within_s: float = WITHIN_S, every_s: float = POLL_S) -> T:
    """Poll until the condition holds; return what it found. Raises OperatorError, saying ``what``, if it never does."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(every_s)
    raise OperatorError(f"waited {within_s:.0f} s in vain for {what}")


def statuses(nodes: Iterable[NodeProcess]) -> list[Status]:
    """Return the status of every node that answers."""
    return [status for status in (node.status() for node in nodes) if status is not None]


def all_have(version: Version, seen: Iterable[Status | None]) -> bool:
    """Return whether every node answered and has this version of the model: one hears of a commit after another."""
    return all(status is not None and status.model is not None and status.model.version >= version for status in seen)


def elections(node: NodeProcess) -> list[Election]:
    """Return the state changes that a node saw. Raises OperatorError if it does not answer."""
    return msgspec.json.decode(NodeApi(node.config.operator).get("/v1/elections"), type=list[Election])


def leader_of_all(cluster: Cluster, version: Version | None = None) -> NodeProcess | None:
    """Return the leader once every node follows it and has every peer up; and this version of the model."""
    seen = statuses(cluster.nodes)
    leaders = {status.leader for status in seen}
    leader = leaders.pop() if len(leaders) == 1 else None
    complete = len(seen) == len(cluster.nodes) and all("down" not in status.peers.values() for status in seen)
    if version is not None:
        complete = complete and all_have(version, seen)
    return cluster[leader] if leader is not None and complete else None


class Safety:
    """What must never be seen, looked for in what nodes tell: forked lineages, and two leaders of one term.

    Nodes forget the elections that they saw when they are killed: look before.

    Attributes:
        problems: a sentence for each thing that must not be.
        leaders: who is said to have led each term.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.leaders: dict[Term, set[NodeName]] = defaultdict(set)
        self._longest: list[Digest] = []

    def look(self, nodes: Iterable[NodeProcess]) -> None:
        """Look at every node that answers."""
        for node in nodes:
            with suppress(OperatorError):
                self._look_at_elections(node.name, elections(node))
                self._look_at_lineage(node.name, [model.digest for model in node.lineage()])

    def _look_at_elections(self, name: NodeName, seen: list[Election]) -> None:
        for election in seen:
            leaders = self.leaders[election.term]
            if election.after == "leader" and election.node not in leaders:
                leaders.add(election.node)
                if len(leaders) > 1:
                    self.problems.append(f"term {election.term} has the leaders {sorted(leaders)}, says {name}")

    def _look_at_lineage(self, name: NodeName, lineage: list[Digest]) -> None:
        if lineage[: len(self._longest)] != self._longest[: len(lineage)]:
            self.problems.append(f"the lineage of {name} forks from another's: {lineage} and {self._longest}")
        self._longest = max(self._longest, lineage, key=len)
