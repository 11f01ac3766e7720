"""Transfer and resignation: thesis, 3.10; the paper's resignation by turns."""

from appliance.consensus.core import ABSTENTION
from appliance.consensus.messages import TimeoutNow
from appliance.consensus.ready import Role
from tests.unit.consensus.bench import TIMEOUT, led


def test_transfer_reaches_the_named_follower_without_a_timeout() -> None:
    bench = led(3)
    before = bench.now
    assert bench.nodes["a"].transfer(bench.now, "c")
    bench.settle()
    assert bench.now == before
    assert bench.nodes["c"].settled
    assert bench.nodes["c"].term == 2
    assert bench.nodes["a"].role is Role.FOLLOWER


def test_transfer_goes_to_the_one_that_led_least() -> None:
    bench = led(3)
    for leader, heir in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "b")]:
        assert bench.nodes[leader].transfer(bench.now)
        bench.settle()
        assert bench.nodes[heir].settled
    assert bench.nodes["c"].log.ledger.turns == {"a": 2, "b": 2, "c": 1}


def test_transfer_waits_until_the_target_has_the_whole_log_and_takes_no_proposals() -> None:
    bench = led(3)
    a = bench.nodes["a"]
    a.propose(b"x", bench.now)  # on its way: the target can't have it yet
    assert a.transfer(bench.now, "b")
    assert a.propose(b"y", bench.now) is None
    assert not any(isinstance(message, TimeoutNow) for _, _, message in bench.sent)
    bench.settle()
    assert bench.nodes["b"].settled
    assert b"x" in [entry.data for entry in bench.applied["b"]]


def test_a_transfer_to_a_dead_node_is_given_up_and_the_leader_goes_on() -> None:
    bench = led(3)
    a = bench.nodes["a"]
    bench.down = {"b"}
    assert a.transfer(bench.now, "b")
    assert not a.transfer(bench.now, "c")
    bench.pass_time(TIMEOUT + 0.01)
    assert a.role is Role.LEADER
    assert a.propose(b"x", bench.now) is not None


def test_transfer_needs_a_leader_and_a_known_target() -> None:
    bench = led(3)
    assert not bench.nodes["b"].transfer(bench.now)
    assert not bench.nodes["b"].resign(bench.now)
    assert not bench.nodes["a"].transfer(bench.now, "z")
    assert not bench.nodes["a"].transfer(bench.now, "a")


def test_a_stale_demand_to_stand_is_ignored() -> None:
    bench = led(3)
    bench.nodes["b"].step("c", TimeoutNow(1), bench.now)
    bench.nodes["b"].step("a", TimeoutNow(0), bench.now)
    assert bench.nodes["b"].role is Role.FOLLOWER


def test_one_who_resigned_does_not_stand_for_a_while() -> None:
    bench = led(3)
    assert bench.nodes["a"].resign(bench.now)
    bench.settle()
    assert bench.nodes["b"].settled
    assert bench.nodes["a"].next_deadline >= bench.now + ABSTENTION * TIMEOUT


def test_a_resignation_that_nobody_takes_up_ends_in_stepping_down() -> None:
    bench = led(3)
    a, start = bench.nodes["a"], bench.now
    bench.down = {"b"}  # the heir, by turns and name
    assert a.resign(start)
    bench.pass_time(TIMEOUT / 2)
    assert a.resign(bench.now)  # asked again: changes nothing
    bench.pass_time(TIMEOUT / 2 + 0.01)
    assert a.role is Role.FOLLOWER
    bench.pass_time(3 * TIMEOUT)
    assert bench.nodes["c"].settled
    assert a.term == 2


def test_in_a_cluster_cut_down_to_one_the_resigned_stands_again_in_the_end() -> None:
    bench = led(2)
    bench.down = {"b"}
    assert bench.nodes["a"].resign(bench.now)
    bench.pass_time((ABSTENTION + 4) * TIMEOUT)
    bench.down = set()
    bench.pass_time(6 * TIMEOUT)
    assert any(raft.settled for raft in bench.nodes.values())


def test_a_restart_keeps_the_turns() -> None:
    bench = led(3)
    bench.nodes["a"].transfer(bench.now)
    bench.settle()
    assert bench.nodes["c"].log.ledger.turns == {"a": 1, "b": 1}
