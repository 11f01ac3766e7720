"""Linearizability of the consensus core under harm, with real processes; and that a stale read would be found."""

import time
from pathlib import Path

import pytest

from appliance.consensus.messages import Request
from appliance.words.ids import NodeName
from tests.linearizability.checker import find_violation
from tests.linearizability.cluster import RegisterCluster
from tests.linearizability.history import Kind, Operation, Value
from tests.linearizability.nemesis import HARMS
from tests.linearizability.register import Write
from tests.linearizability.register_node import Answer, Question
from tests.linearizability.run import describe, run
from tests.process.udp_proxy import PERFECT
from tests.process.waiting import until

SECONDS = 18.0
KEY = "a"


def test_what_clients_see_through_crashes_pauses_and_cuts(tmp_path: Path) -> None:
    outcome = run(tmp_path, seed=20, seconds=SECONDS)
    violation = find_violation(outcome.history)
    assert violation is None, describe(violation)
    assert outcome.logs == ""
    # It was a trial: every kind of harm, elections, snapshots, and clients that got something done all the same.
    assert outcome.harm.keys() == HARMS.keys()
    assert outcome.last_term > 3
    assert outcome.snapshots == 5
    assert all(outcome.done[kind] > 50 for kind in ("read", "write", "cas"))
    assert outcome.done["unknown"] > 0


class Seen:
    """What one client sees that does one thing after the other, at the nodes that it is told."""

    def __init__(self, cluster: RegisterCluster) -> None:
        self._cluster = cluster
        self.history: list[Operation] = []

    def write(self, node: NodeName, value: str, request: Request) -> Answer:
        """Write at a node, until it is done."""
        question = Question("command", KEY, Write(KEY, value), request)
        return self._note(node, question, "write", value)

    def read(self, node: NodeName, *, peek: bool = False) -> Value:
        """Read at a node; a peek is what it holds without asking anybody."""
        return self._note(node, Question("peek" if peek else "read", KEY), "read").value

    def _note(self, node: NodeName, question: Question, kind: Kind, value: Value = None) -> Answer:
        invoked = time.monotonic()
        answer = self.ask(node, question)
        seen = answer.value if kind == "read" else None
        self.history.append(
            Operation(
                client="test",
                key=KEY,
                kind=kind,
                value=value,
                seen=seen,
                invoked=invoked,
                returned=time.monotonic(),
            )
        )
        return answer

    def ask(self, node: NodeName, question: Question) -> Answer:
        """Ask a node until it can say."""

        def done() -> Answer | None:
            answer = self._cluster.ask(node, question)
            return answer if answer is not None and answer.done else None

        answer = until(done, f"{node} answers {question}")
        assert answer is not None
        return answer


def test_a_read_that_asks_nobody_is_found_out(tmp_path: Path) -> None:
    """A leader that is cut off does not know what the others commit: its own copy is stale, and ``read`` says no."""
    with RegisterCluster(tmp_path, 3, seed=1, quality=PERFECT) as cluster:
        seen = Seen(cluster)
        former = cluster.wait_leader()
        seen.write(former, "old", Request("test", 1))
        assert seen.read(former) == "old"
        cluster.network.isolate({former})
        leader = cluster.wait_leader(other_than=former)
        seen.write(leader, "new", Request("test", 2))

        refused = cluster.ask(former, Question("read", KEY))
        assert refused is not None
        assert not refused.done
        assert seen.read(leader) == "new"
        assert find_violation(seen.history) is None

        assert seen.read(former, peek=True) == "old"
        violation = find_violation(seen.history)
        assert violation is not None
        assert violation.stuck == seen.history[-1]


@pytest.mark.parametrize("same_leader", [True, False])
def test_a_retried_request_is_done_once(tmp_path: Path, *, same_leader: bool) -> None:
    """Also by the next leader, and after another client's write; the answer is the first one's."""
    with RegisterCluster(tmp_path, 3, seed=2, quality=PERFECT) as cluster:
        seen = Seen(cluster)
        leader = cluster.wait_leader()
        seen.write(leader, "base", Request("base", 1))
        first = seen.write(leader, "mine", Request("mine", 1))
        assert first.value == "base"
        seen.write(leader, "yours", Request("yours", 1))
        if not same_leader:
            cluster.kill(leader)
            leader = cluster.wait_leader(other_than=leader)
        retry = Question("command", KEY, Write(KEY, "mine"), Request("mine", 1))
        assert seen.ask(leader, retry).value == "base"
        assert seen.read(leader) == "yours"
        assert find_violation(seen.history) is None
