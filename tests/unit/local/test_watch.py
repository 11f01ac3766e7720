"""Watching a cluster: waits end, a leader is one whom all follow, and what must never be is told."""

from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
import pytest

from appliance.local import watch
from appliance.local.processes import Cluster
from appliance.local.watch import Safety, all_have, leader_of_all, until
from appliance.node.elections import Election
from appliance.operator_api.views import ModelView, Status
from appliance.words.errors import OperatorError
from appliance.words.models import GlobalModel
from tests.unit.lineage.test_lineage import model
from tests.unit.operator_api.fake import DIGEST, STATUS

PEERS = {"node0", "node1", "node2"}


@dataclass
class Node:
    """What a node process would tell."""

    name: str
    leader: str | None = "node1"
    down: frozenset[str] = frozenset()
    version: int | None = 3
    answers: bool = True
    models: list[GlobalModel] = field(default_factory=list)
    seen: list[Election] = field(default_factory=list)

    def status(self) -> Status | None:
        peers: dict[str, Any] = {peer: "down" if peer in self.down else "up" for peer in PEERS - {self.name}}
        known = None if self.version is None else ModelView(self.version, DIGEST, 0.9, 0.1)
        status = msgspec.structs.replace(STATUS, node=self.name, leader=self.leader, peers=peers, model=known)
        return status if self.answers else None

    def lineage(self) -> list[GlobalModel]:
        if not self.answers:
            raise OperatorError("no answer")
        return self.models


def cluster(*changed: Node) -> Cluster:
    nodes = {name: Node(name) for name in sorted(PEERS)} | {node.name: node for node in changed}
    return Cluster(cast(Any, list(nodes.values())))


def test_what_never_comes_is_named() -> None:
    with pytest.raises(OperatorError, match="waited 0 s in vain for a miracle"):
        until(lambda: None, "a miracle", within_s=0.01, every_s=0.001)


def test_what_comes_is_returned() -> None:
    found = iter([None, 0, 7])
    assert until(lambda: next(found), "seven", every_s=0.0) == 7


def test_a_leader_is_one_whom_all_follow_with_every_peer_up() -> None:
    leader = leader_of_all(cluster(), version=3)
    assert leader is not None
    assert leader.name == "node1"
    for broken in (
        Node("node0", leader="node0"),
        Node("node0", leader=None),
        Node("node0", down=frozenset({"node2"})),
        Node("node0", answers=False),
    ):
        assert leader_of_all(cluster(broken)) is None
    for behind in (Node("node0", version=2), Node("node0", version=None)):
        assert leader_of_all(cluster(behind), version=3) is None
        assert leader_of_all(cluster(behind)) is not None


def test_a_version_is_known_by_all_only_when_the_last_has_heard_of_it() -> None:
    ahead = Node("node0", version=4).status()
    assert all_have(3, [ahead, Node("node1", version=3).status()])
    for behind in (Node("node1", version=2), Node("node1", version=None), Node("node1", answers=False)):
        assert not all_have(3, [ahead, behind.status()])


@pytest.fixture
def safety(monkeypatch: pytest.MonkeyPatch) -> Safety:
    monkeypatch.setattr(watch, "elections", lambda node: node.seen)
    return Safety()


def _look(safety: Safety, *nodes: Node) -> list[str]:
    safety.look(cast(Any, nodes))
    return safety.problems


def test_lineages_of_different_length_agree(safety: Safety) -> None:
    short, long = [model(0)], [model(0), model(1)]
    assert _look(safety, Node("a", models=short), Node("b", models=long), Node("c", answers=False)) == []
    assert _look(safety, Node("b", models=long), Node("a", models=short)) == []


def test_a_fork_is_told_even_between_two_looks(safety: Safety) -> None:
    assert _look(safety, Node("a", models=[model(0), model(1)])) == []
    (problem,) = _look(safety, Node("b", models=[model(0), model(1, "other")]))
    assert problem.startswith("the lineage of b forks")


def test_two_leaders_of_one_term_are_told_once(safety: Safety) -> None:
    def led(who: str, term: int) -> Election:
        return Election(1.0, term, who, "candidate", "leader")

    nodes = Node("a", seen=[led("a", 1), led("b", 2)]), Node("b", seen=[led("b", 2), led("c", 2)])
    assert _look(safety, *nodes) == ["term 2 has the leaders ['b', 'c'], says b"]
    assert len(_look(safety, *nodes)) == 1
