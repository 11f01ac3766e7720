"""Transfers, members and reads, after the list of etcd's ``raft_test.go`` (and ``testdata``).

Elsewhere: ``TestLeaderTransferToUpToDateNode``, ``...WithCheckQuorum``, ``...ToSelf``, ``...ToNonExistingNode``,
``...Timeout``, ``...IgnoreProposal``, ``...SecondTransferToAnotherNode`` (refused here; all in ``test_handover``);
``TestStepConfig``, ``TestStepIgnoreConfig``, ``TestAddNode``, ``TestAddLearner``, ``TestRemoveNode``,
``confchange_v1_*.txt`` (``test_membership``); ``TestReadOnlyForNewLeader`` (``test_reads``).

No meaning here:

- ``TestLeaderTransferToUpToDateNodeFromFollower``, reads that a follower forwards: who asks goes to the leader.
- ``TestLeaderTransferBack``: a transfer that began ends by itself, after an election timeout at most.
- ``TestLeaderTransferDemoteNode``, ``TestLeaderTransferRemoveNode``: no member changes while a transfer is under way.
- ``TestReadOnlyOptionLease``: reads are confirmed, never taken on trust in clocks.
- ``TestConfChange*CheckBeforeCampaign``: a membership counts as soon as it is in the log, applied or not.
- ``confchange_v2_*.txt``, ``confchange_disable_validation.txt``: no joint consensus.
"""

import pytest

from appliance.consensus import membership
from appliance.consensus.membership import Membership, encode_membership
from appliance.consensus.messages import AppendEntriesReply, Entry, RequestVoteReply, TimeoutNow
from appliance.consensus.reads import Read
from appliance.consensus.ready import Role
from appliance.words.errors import OperatorError
from appliance.words.ids import Monotonic
from tests.unit.consensus.bench import HEARTBEAT, T0, TIMEOUT, accept, core, leading, led

# --- transfers --------------------------------------------------------------------------------------------------------


def test_leader_transfer_to_slow_follower() -> None:
    """etcd ``TestLeaderTransferToSlowFollower``: it is brought up to date first."""
    bench = led(3)
    bench.down = {"c"}
    bench.propose("a", b"x")
    bench.pass_time(2 * HEARTBEAT)
    bench.down = set()
    assert bench.nodes["a"].transfer(bench.now, "c")
    bench.settle()
    assert bench.leaders() == {"a"}
    bench.pass_time(2 * HEARTBEAT)
    assert (bench.leaders(), bench.data("c")) == ({"c"}, [b"x"])


def test_leader_transfer_after_snapshot() -> None:
    """etcd ``TestLeaderTransferAfterSnapshot``: even if that takes a snapshot."""
    bench = led(3)
    bench.down = {"c"}
    bench.propose("a", *[b"%d" % number for number in range(20)])
    bench.nodes["a"].compact(b"twenty", keep=0)
    bench.pass_time(3 * HEARTBEAT)
    bench.down = set()
    assert bench.nodes["a"].transfer(bench.now, "c")
    bench.pass_time(3 * HEARTBEAT)
    assert [name for name, _ in bench.restored] == ["c"]
    assert (bench.leaders(), bench.nodes["c"].settled) == ({"c"}, True)


def test_leader_transfer_receive_higher_term_vote() -> None:
    """etcd ``TestLeaderTransferReceiveHigherTermVote``: a transfer ends with the term."""
    bench = led(3)
    bench.down = {"c"}
    bench.nodes["a"].transfer(bench.now, "c")
    bench.nodes["b"].step("a", TimeoutNow(1), bench.now)  # as if an earlier transfer's word came late
    bench.settle()
    assert (bench.nodes["a"].role, bench.leaders()) == (Role.FOLLOWER, {"b"})
    bench.down = {"b"}
    bench.pass_time(5 * TIMEOUT)
    assert bench.nodes["a"].propose(b"x", bench.now) is not None, "and is not there in the next"


def test_leader_transfer_second_transfer_to_same_node() -> None:
    """etcd ``TestLeaderTransferSecondTransferToSameNode``: asking again does not make it last longer."""
    bench = led(3)
    bench.down = {"c"}
    a, start = bench.nodes["a"], bench.now
    a.transfer(start, "c")
    bench.pass_time(TIMEOUT / 2)
    assert not a.transfer(bench.now, "c")
    bench.pass_time(TIMEOUT / 2 + 0.01)
    assert a.propose(b"x", bench.now) is not None


def test_transfer_non_member() -> None:
    """etcd ``TestTransferNonMember``: one that was removed does not stand, whoever votes for it."""
    raft = core("a", 0, [Entry(1, 1, "members", encode_membership(membership.of("bcd")))])
    raft.step("b", TimeoutNow(1), T0)
    raft.step("b", RequestVoteReply(1, False, True), T0)
    raft.step("c", RequestVoteReply(1, False, True), T0)
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)


# --- members ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pending", [False, True])
def test_new_leader_pending_config(pending: bool) -> None:
    """etcd ``TestNewLeaderPendingConfig``: a change that a former leader left open is the one that is under way."""
    log = [Entry(1, 1, "members", encode_membership(membership.of("abc"))), Entry(2, 1, "data", b"")]
    if pending:
        log[1] = Entry(2, 1, "members", encode_membership(Membership(membership.of("abc").voters, {"d": ""})))
    raft = leading(3, log)
    with pytest.raises(OperatorError, match="only just began"):
        raft.remove("b", T0)
    accept(raft, "b")
    raft.remove("c", T0)
    assert set(raft.log.membership.names) == set("abd" if pending else "ab")


def test_add_node_check_quorum() -> None:
    """etcd ``TestAddNodeCheckQuorum``: a new voter costs no majority at once; a dead one does."""
    bench = led(1)
    bench.pass_time(10 * TIMEOUT)
    bench.join("b")
    bench.nodes["a"].add("b", "b", bench.now)
    bench.pass_time(TIMEOUT / 2)
    assert set(bench.nodes["a"].log.membership.voters) == {"a", "b"}
    assert bench.nodes["a"].role is Role.LEADER
    bench.down = {"b"}
    bench.pass_time(TIMEOUT + HEARTBEAT)
    assert bench.nodes["a"].role is not Role.LEADER


def test_remove_learner() -> None:
    """etcd ``TestRemoveLearner``; the last voter stays, learners or not."""
    bench = led(1)
    bench.nodes["a"].add("b", "b", bench.now)
    bench.settle()
    with pytest.raises(OperatorError, match="the last node that votes"):
        bench.nodes["a"].remove("a", bench.now)
    bench.nodes["a"].remove("b", bench.now)
    assert bench.nodes["a"].log.membership == membership.of("a")


def test_commit_after_remove_node() -> None:
    """etcd ``TestCommitAfterRemoveNode``: what waited is committed by those who remain."""
    raft = leading(3)
    accept(raft, "b", "c")
    raft.ready()
    raft.remove("c", T0)
    raft.propose(b"hello", T0)
    assert raft.log.commit == 2
    accept(raft, "c")
    assert raft.log.commit == 2, "who is being removed counts no more, from the moment that it is in the log"
    accept(raft, "b", upto=4)
    assert [entry.data for entry in raft.ready().committed][-1] == b"hello"


# --- reads ------------------------------------------------------------------------------------------------------------


def test_read_only_option_safe() -> None:
    """etcd ``TestReadOnlyOptionSafe``: each sees what was committed before it."""
    bench = led(3)
    expected = []
    for leader in "abcab":
        bench.propose(leader, *[b"x"] * 10)
        bench.read(leader)
        expected.append(bench.nodes[leader].log.commit)
        bench.settle()
        bench.nodes[leader].transfer(bench.now, "bcabc"["abcab".index(leader)])
        bench.settle()
    assert [read.index for read in bench.reads] == expected
    assert expected == sorted(set(expected))


def test_read_only_with_learner() -> None:
    """etcd ``TestReadOnlyWithLearner``: only who votes can confirm that a leader leads."""
    log = [Entry(1, 1, "members", encode_membership(Membership(membership.of("abc").voters, {"d": ""})))]
    raft = leading(3, log)
    accept(raft, "b")
    raft.ready()
    assert raft.read(0, T0)
    ((_, message), *_) = raft.ready().messages
    beat = getattr(message, "beat", 0)
    raft.step("d", AppendEntriesReply(2, False, 1, beat=beat), T0)
    assert raft.ready().reads == ()
    raft.step("c", AppendEntriesReply(2, False, 1, beat=beat), T0)
    assert raft.ready().reads == (Read(0, 2),)


def test_raft_frees_read_only_mem() -> None:
    """etcd ``TestRaftFreesReadOnlyMem``: no read is answered twice, or left open."""
    bench = led(3)
    for _ in range(5):
        bench.read("a")
        bench.settle()
    assert bench.reads == [Read(number, 2) for number in range(5)]
    bench.down = {"b", "c"}
    bench.read("a")
    bench.pass_time(2 * TIMEOUT)
    assert bench.reads[5:] == [Read(5, None)]
    assert not bench.nodes["a"].read(6, Monotonic(bench.now))
