"""Linearizable reads (ReadIndex): thesis, 6.4."""

from appliance.consensus.messages import AppendEntriesReply, RequestVoteReply
from appliance.consensus.reads import Read
from appliance.consensus.ready import Role
from appliance.words.ids import Monotonic
from tests.unit.consensus.bench import TIMEOUT, Bench, core, led

T0 = Monotonic(0.0)


def test_a_read_sees_all_that_is_committed() -> None:
    bench = led(3)
    bench.nodes["a"].propose(b"x", bench.now)
    bench.settle()
    bench.read("a")
    bench.settle()
    assert bench.reads == [Read(0, 3)]


def test_a_read_waits_for_a_majority_that_is_asked_after_it() -> None:
    """An answer to an earlier heartbeat proves nothing of now."""
    bench = led(5)
    a = bench.nodes["a"]
    old = a._leadership.reads.beat if a._leadership else 0
    assert a.read(7, bench.now)
    messages = a.ready().messages
    assert {to for to, _ in messages} == set("bcde")
    for follower in "bcde":
        a.step(follower, AppendEntriesReply(1, True, 2, beat=old), bench.now)
    assert a.ready().reads == ()
    a.step("b", AppendEntriesReply(1, True, 2, beat=old + 1), bench.now)
    a.step("b", AppendEntriesReply(1, True, 2, beat=old + 1), bench.now)
    assert a.ready().reads == ()
    a.step("c", AppendEntriesReply(1, False, 2, beat=old + 1), bench.now)
    assert a.ready().reads == (Read(7, 2),)


def test_keep_alives_prove_nothing() -> None:
    """They may be sent while a vote for another leader is on its way to this node's disk."""
    bench = led(3)
    assert all(getattr(message, "beat", None) == 0 for _, message in bench.nodes["a"].keep_alive())


def test_who_does_not_lead_or_has_not_settled_refuses() -> None:
    bench = led(3)
    assert not bench.nodes["b"].read(0, bench.now)
    raft = core("a", 3)
    raft.tick(raft.next_deadline)
    raft.step("b", RequestVoteReply(1, True, True), T0)
    raft.step("b", RequestVoteReply(1, False, True), T0)
    assert raft.role is Role.LEADER
    assert not raft.read(0, T0), "it does not know yet what is committed"


def test_a_leader_that_is_replaced_answers_no_read() -> None:
    bench = led(3)
    bench.down = {"a"}
    bench.read("a")
    bench.settle()
    bench.stand("b")
    bench.nodes["b"].propose(b"newer", bench.now)
    bench.settle()
    assert bench.reads == []
    bench.down = set()
    bench.pass_time(2 * TIMEOUT)
    assert bench.reads == [Read(0, None)]


def test_a_cut_off_leader_answers_no_read_and_says_so_within_its_step_down_time() -> None:
    bench = led(3)
    bench.down = {"b", "c"}
    bench.read("a")
    bench.pass_time(TIMEOUT + 0.01)
    assert bench.reads == [Read(0, None)]


def test_many_reads_share_a_heartbeat() -> None:
    bench = led(3)
    bench.sent.clear()
    for number in range(100):
        assert bench.nodes["a"].read(number, bench.now)
    bench.settle()
    assert [read.index for read in bench.reads] == [2] * 100
    assert len([to for _, to, _ in bench.sent if to != "a"]) == 2


def test_a_lone_node_answers_at_once() -> None:
    bench = Bench(1)
    bench.stand("a")
    bench.read("a")
    bench.settle()
    assert bench.reads == [Read(0, 2)]
