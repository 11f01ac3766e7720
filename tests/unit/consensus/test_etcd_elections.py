"""Elections, after the list of etcd's ``raft_test.go`` (and ``testdata``); PreVote and CheckQuorum are always on here.

Elsewhere: what cites the paper (``test_paper``); ``TestSingleNodeCandidate``, ``TestLeaderStepdownWhenQuorumActive``
and ``...Lost`` (``test_elections``); ``TestLearnerElectionTimeout``, ``TestLearnerPromotion`` (``test_membership``).

No meaning here:

- ``TestDuelingCandidates``, ``TestDisruptiveFollower``, ``TestPreVoteMigration*``: PreVote can't be turned off.
- ``TestCandidateSelfVote*``, ``TestLeaderMsgAppSelfAck*``: a node sends itself nothing; its own vote and entry count at
  once, since nothing that follows from them is sent before they are durable (``Ready``).
- ``TestStateTransition``: roles are not a table that tests can call; each change is reached by messages.
- ``TestPastElectionTimeout``: ticks; the spread of the timeouts is in ``test_paper``.
- ``TestRecvMsgBeat``: no such message; only a leader has heartbeats to send (``test_replication``, keep-alives).
- ``forget_leader*.txt``: nothing tells a follower to forget its leader.
- ``campaign_now_lease.txt``: nobody but the leader can have a node stand (``test_handover``).
"""

import pytest

from appliance.consensus.core import Raft
from appliance.consensus.membership import Membership, encode_membership
from appliance.consensus.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entry,
    HardState,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from appliance.consensus.ready import Role
from appliance.words.ids import Monotonic, Term
from tests.unit.consensus.bench import HEARTBEAT, T0, TIMEOUT, Bench, candidate, core, entries, in_state, led


def answers(raft: Raft) -> list[bool]:
    return [message.granted for _, message in raft.ready().messages if isinstance(message, RequestVoteReply)]


@pytest.mark.parametrize(
    ("size", "down", "role", "term"),
    [
        (3, "", Role.LEADER, 1),
        (3, "c", Role.LEADER, 1),
        (3, "bc", Role.CANDIDATE, 0),
        (4, "bc", Role.CANDIDATE, 0),
        (5, "bc", Role.LEADER, 1),
    ],
)
def test_leader_election(size: int, down: str, role: Role, term: Term) -> None:
    """etcd ``TestLeaderElection``, ``TestLeaderElectionPreVote``: one that fails costs no term."""
    bench = Bench(size)
    bench.down = set(down)
    bench.stand("a")
    assert (bench.nodes["a"].role, bench.nodes["a"].term) == (role, term)


def test_leader_election_against_longer_logs() -> None:
    """etcd ``TestLeaderElection``, its last case: three logs are further, so the answers are refusals."""
    bench = Bench(5, {"b": entries(1), "c": entries(1), "d": entries(1, 1)})
    bench.stand("a")
    bench.stand("a")
    assert (bench.nodes["a"].role, bench.nodes["a"].term) == (Role.FOLLOWER, 1)


def test_leader_cycle() -> None:
    """etcd ``TestLeaderCycle``, ``TestLeaderCyclePreVote``: each can be elected, and not only from a clean slate."""
    bench = led(3)
    for former, name in ("ab", "bc", "ca"):
        bench.down = {former}
        bench.stand(name)
        assert bench.nodes[name].settled
        bench.down = set()
        bench.pass_time(2 * HEARTBEAT)
        assert bench.leaders() == {name}
    assert bench.nodes["a"].term == 4


def test_leader_election_overwrite_newer_logs() -> None:
    """etcd ``TestLeaderElectionOverwriteNewerLogs``: the winner's entries are of a lower term than those it replaces.

    a won term 1 and reached only b; c won term 2 with d and e, and reached nobody.
    """
    voted = {"d": HardState(2, "c", 0), "e": HardState(2, "c", 0)}
    bench = Bench(5, {"a": entries(1), "b": entries(1), "c": entries(2)}, voted)
    bench.stand("a")
    assert (bench.nodes["a"].role, bench.nodes["a"].term) == (Role.FOLLOWER, 2), "it learns of term 2"
    bench.stand("a")
    assert (bench.nodes["a"].role, bench.nodes["a"].term) == (Role.LEADER, 3)
    assert [[entry.term for entry in bench.disks[name].entries] for name in "abcde"] == [[1, 3, 3]] * 5


@pytest.mark.parametrize("state", ["follower", "pre-candidate", "candidate", "leader"])
@pytest.mark.parametrize("trial", [False, True])
def test_vote_from_any_state(state: str, trial: bool) -> None:
    """etcd ``TestVoteFromAnyState``, ``TestPreVoteFromAnyState``: once the leader, if any, has lost its majority."""
    raft = in_state(state)
    term, late = raft.term, Monotonic(2 * TIMEOUT)
    raft.step("b", RequestVote(term + 1, 42, term + 1, trial, False), late)
    ready = raft.ready()
    assert [m for _, m in ready.messages] == [RequestVoteReply(term + 1, trial, True)]
    if trial:
        assert (raft.term, ready.hard_state) == (term, None), "a pre-vote changes nothing"
    else:
        assert (raft.role, ready.hard_state) == (Role.FOLLOWER, HardState(term + 1, "b", 0))


@pytest.mark.parametrize("trial", [False, True])
@pytest.mark.parametrize("last_index", [0, 1, 2, 3])
@pytest.mark.parametrize("last_term", [0, 1, 2, 3])
def test_recv_msg_vote(trial: bool, last_index: int, last_term: Term) -> None:
    """etcd ``TestRecvMsgVote``, ``TestRecvMsgPreVote``: against a log that ends with entry 2 of term 2."""
    raft = core("a", 3, entries(2, 2))
    raft.step("b", RequestVote(4, last_index, last_term, trial, False), T0)
    assert answers(raft) == [last_term > 2 or (last_term == 2 and last_index >= 2)]


@pytest.mark.parametrize("asked", ["leader", "candidate", "voted for c"])
def test_recv_msg_vote_with_its_own_vote_given(asked: str) -> None:
    """etcd ``TestRecvMsgVote``: whoever stands or leads has voted for itself."""
    raft = core("a", 3, (), HardState(1, "c", 0)) if asked == "voted for c" else in_state(asked)
    raft.step("b", RequestVote(1, 9, 1, False, False), Monotonic(2 * TIMEOUT))
    assert answers(raft) == [False]


@pytest.mark.parametrize("state", ["follower", "candidate", "leader"])
@pytest.mark.parametrize("what", ["vote", "append"])
def test_all_server_stepdown(state: str, what: str) -> None:
    """etcd ``TestAllServerStepdown``: a later term makes everybody a follower of it."""
    raft = in_state(state)
    length = raft.log.last_index
    late = Monotonic(2 * TIMEOUT)
    raft.step("b", AppendEntries(3, 0, 0, 0, ()) if what == "append" else RequestVote(3, 3, 3, False, False), late)
    assert (raft.role, raft.term, raft.log.last_index) == (Role.FOLLOWER, 3, length)
    assert raft.leader == ("b" if what == "append" else None)


def test_dueling_pre_candidates() -> None:
    """etcd ``TestDuelingPreCandidates``: one that can't reach the leader asks, is refused, and disturbs nobody."""
    bench = Bench(3)
    bench.cut("a", "c")
    bench.stand("a")
    bench.stand("c")
    assert bench.nodes["a"].role is Role.LEADER
    assert bench.nodes["c"].role is not Role.LEADER
    bench.cuts.clear()
    bench.pass_time(4 * TIMEOUT)
    assert {raft.term for raft in bench.nodes.values()} == {1}
    assert (bench.leaders(), bench.nodes["c"].leader) == ({"a"}, "a")


def test_candidate_concede() -> None:
    """etcd ``TestCandidateConcede``."""
    bench = Bench(3)
    bench.down = {"a"}
    bench.stand("a")
    bench.stand("c")
    bench.down = set()
    bench.propose("c", b"force follower")
    bench.pass_time(2 * HEARTBEAT)
    assert (bench.nodes["a"].role, bench.nodes["a"].term) == (Role.FOLLOWER, 1)
    assert bench.data("a") == bench.data("b") == bench.data("c") == [b"force follower"]


@pytest.mark.parametrize("new", [(), tuple(entries(1))])
def test_candidate_reset_term(new: tuple[Entry, ...]) -> None:
    """etcd ``TestCandidateResetTermMsgHeartbeat``, ``...MsgApp``."""
    raft = candidate(3)
    raft.step("b", AppendEntries(4, 0, 0, 0, new), T0)
    assert (raft.role, raft.term, raft.leader) == (Role.FOLLOWER, 4, "b")


def test_leader_superseding_with_check_quorum() -> None:
    """etcd ``TestLeaderSupersedingWithCheckQuorum``: only once the others hear the leader no more."""
    bench = led(3)
    bench.cut("a", "c")
    bench.pass_time(TIMEOUT)
    bench.nodes["c"].tick(Monotonic(bench.nodes["c"].next_deadline))
    bench.settle()
    assert bench.leaders() == {"a"}, "b hears it, and refuses"
    bench.down = {"a"}
    bench.now = Monotonic(bench.now + TIMEOUT)
    bench.stand("c")
    assert bench.nodes["c"].settled


def test_free_stuck_candidate_with_check_quorum() -> None:
    """etcd ``TestFreeStuckCandidateWithCheckQuorum``: one of a later term gets a new election, by a leader's message.

    With PreVote that state arises only from a race (its pre-vote was won, the vote was not); it must still be left.
    """
    bench = led(3)
    stuck = bench.disks["c"]
    stuck.state = HardState(7, "c", stuck.state.commit)
    bench.start("c")
    bench.pass_time(HEARTBEAT)
    assert bench.nodes["a"].term == 7, "the answer to its heartbeat told it"
    bench.pass_time(4 * TIMEOUT)
    (leader,) = bench.leaders()
    assert bench.nodes[leader].settled
    assert {raft.leader for raft in bench.nodes.values()} == {leader}


def test_disruptive_follower_pre_vote() -> None:
    """etcd ``TestDisruptiveFollowerPreVote``: a delayed heartbeat to one that asks does not depose its sender."""
    bench = led(3)
    bench.down = {"c"}
    bench.propose("a", b"1", b"2", b"3")
    late = AppendEntries(1, 2, 1, 2, (), 1)
    bench.stand("c")
    assert bench.nodes["c"].role is Role.CANDIDATE
    bench.down = set()
    bench.nodes["c"].step("a", late, bench.now)
    bench.settle()
    assert (bench.nodes["a"].role, bench.nodes["a"].term, bench.nodes["c"].leader) == (Role.LEADER, 1, "a")


def test_node_with_smaller_term_can_complete_election() -> None:
    """etcd ``TestNodeWithSmallerTermCanCompleteElection``: one that was cut off comes back as the leader goes."""
    bench = Bench(3)
    bench.cut("c", "a", "b")
    bench.stand("a")
    bench.nodes["a"].transfer(bench.now, "b")
    bench.settle()
    bench.stand("c")
    assert [bench.nodes[name].term for name in "abc"] == [2, 2, 0]
    assert bench.leaders() == {"b"}
    bench.cuts.clear()
    bench.down = {"b"}
    bench.pass_time(4 * TIMEOUT)
    assert bench.leaders() == {"b", "a"}, "c lacks what is committed"
    assert bench.nodes["a"].settled


def test_pre_vote_with_split_vote() -> None:
    """etcd ``TestPreVoteWithSplitVote``: the next round ends what a split vote left open."""
    bench = led(3)
    bench.down = {"a"}
    b, c = bench.nodes["b"], bench.nodes["c"]
    bench.now = Monotonic(max(b.next_deadline, c.next_deadline))
    for raft, other in ((b, "c"), (c, "b")):
        raft.tick(bench.now)
        raft.step(other, RequestVoteReply(2, True, True), bench.now)
    bench.settle()
    assert [(raft.role, raft.term) for raft in (b, c)] == [(Role.CANDIDATE, 2)] * 2, "each has voted for itself"
    bench.stand("b")
    assert (b.settled, b.term, c.leader) == (True, 3, "b")


def test_pre_vote_with_check_quorum() -> None:
    """etcd ``TestPreVoteWithCheckQuorum``: having asked, a node takes the former leader's silence for granted."""
    bench = led(3)
    bench.down = {"a"}
    b, c = bench.nodes["b"], bench.nodes["c"]
    c.tick(c.next_deadline)
    bench.settle()
    assert c.role is not Role.LEADER, "b heard a lately"
    b.tick(b.next_deadline)
    bench.settle()
    assert b.role is Role.LEADER


@pytest.mark.parametrize(("voters", "may"), [("a", True), ("abc", True), ("", False), ("bc", False)])
def test_promotable(voters: str, may: bool) -> None:
    """etcd ``TestPromotable``, ``TestNonPromotableVoterWithCheckQuorum``."""
    log = [Entry(1, 1, "members", encode_membership(Membership(dict.fromkeys(voters, "")))) for _ in voters[:1]]
    raft = core("a", 0, log, HardState(1, None, len(log)))
    assert (raft.next_deadline < float("inf")) == may
    raft.tick(Monotonic(99.0))
    assert (raft.role is not Role.FOLLOWER) == may
    if not may:
        raft.step("b", AppendEntries(2, 0, 0, 0, ()), Monotonic(99.0))
        assert raft.leader == "b", "it follows like any other"


def learner() -> Raft:
    """Return core b, a learner of a's cluster that knows it."""
    log = [Entry(1, 1, "members", encode_membership(Membership({"a": ""}, {"b": ""})))]
    return core("b", 0, log, HardState(1, None, 1))


def test_learner_can_vote() -> None:
    """etcd ``TestLearnerCanVote``, ``campaign_learner_must_vote.txt``: it may be a voter and not know it yet."""
    raft = learner()
    raft.step("a", RequestVote(2, 11, 2, False, False), T0)
    assert answers(raft) == [True]


def test_learner_campaign() -> None:
    """etcd ``TestLearnerCampaign``: neither by time nor when it is told to."""
    raft = learner()
    raft.step("a", AppendEntries(1, 1, 1, 1, ()), T0)
    raft.step("a", TimeoutNow(1), T0)
    raft.tick(Monotonic(99.0))
    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)


def test_campaign_while_leader() -> None:
    """etcd ``TestCampaignWhileLeader``, ``TestPreCampaignWhileLeader``."""
    raft = core("a", 1)
    for seconds in (0.0, 1.0, 50.0):
        raft.tick(Monotonic(seconds))
        assert (raft.role, raft.term) == (Role.LEADER, 1)


def test_old_messages() -> None:
    """etcd ``TestOldMessages``: a former leader that goes on where it stopped changes nothing."""
    bench = led(3)
    for former, name in ("ab", "ba"):
        assert bench.nodes[former].transfer(bench.now, name)
        bench.settle()
    bench.nodes["a"].step("b", AppendEntries(2, 3, 2, 3, (Entry(4, 2, "data", b"old"),)), bench.now)
    bench.propose("a", b"new")
    bench.nodes["b"].step("a", AppendEntriesReply(1, True, 1), bench.now)
    assert (bench.leaders(), bench.nodes["a"].term) == ({"a"}, 3)
    assert bench.data("a") == bench.data("b") == bench.data("c") == [b"new"]
