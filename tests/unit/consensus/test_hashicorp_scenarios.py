"""Scenarios after the list of HashiCorp's ``raft_test.go``, without its clocks and threads.

Elsewhere: ``TestRaft_SingleNode``, ``_PreVoteAvoidElectionWithPartition``, ``_NotifyCh``,
``_VotingGrant_WhenLeaderAvailable`` (``test_elections``); ``_TripleNode``, ``_ApplyNonLeader``, ``_AppendEntry``
(``test_replication``); ``_JoinNode``, ``_RemoveFollower``, ``_RemoveLeader``, ``_AddKnownPeer``,
``_RemoveUnknownPeer``, ``_LiveBootstrap`` (``test_membership``); ``_LeadershipTransfer``, ``...InProgress``,
``...PickServer`` (by turns), ``...WithOneNode``, ``...ToInvalidID``, ``...ToItself``,
``...LeaderRejectsClientRequests`` (``test_handover``, ``test_membership``); ``_UserSnapshot``,
``_SendSnapshotFollower``, ``_InstallSnapshot_InvalidPeers`` (``test_snapshots``); ``_VerifyLeader``,
``_VerifyLeader_Single``, ``_Barrier`` (a read; ``test_reads``); ``_LeadershipTransferToBehindServer``,
``_runFollower_State_Transition`` (``test_etcd_*``); ``_StartStop``, ``_AfterShutdown``, ``_ApplyConcurrent``,
``_AutoSnapshot``, ``_CacheLogWithStoreError`` (a failed write ends the node; ``tests/unit/datagrams``).

No meaning here:

- ``_RecoverCluster*``, ``_SnapshotRestore_PeerChange``, ``_UserRestore``, ``_NoRestoreOnStart``: nobody sets a log or
  the members by hand; ``_HasExistingState``, ``_GetConfigurationNoBootstrap``: nobody reads a folder but its node.
- ``_ApplyConcurrent_Timeout``: the core queues nothing; ``_LeadershipTransferStopRightAway``: has no threads.
- ``_PreVoteMixedCluster``, ``_ProtocolVersion*``: one protocol, and PreVote is part of it.
- ``_ReloadConfig*``, ``_LogStoreIsMonotonic``, ``_SnapshotRestore_Progress``: that library's own.
- ``_LeadershipTransferToInvalidAddress``, ``_VoteWithNoIDNoAddr``: the core knows names, not addresses.
- ``_VoteNotGranted_WhenNodeNotInCluster``: votes are given to whoever asks, member or not, because the voter may not
  know the latest members yet (thesis, 4.1); what keeps a removed node quiet is PreVote and the lease (4.2.3).
"""

import pytest

from appliance.consensus import membership
from appliance.consensus.core import Raft
from appliance.consensus.membership import Membership, membership_of
from appliance.consensus.messages import AppendEntries, AppendEntriesReply, Entry, HardState, RequestVote, TimeoutNow
from appliance.consensus.reads import Read
from appliance.consensus.ready import Role
from appliance.consensus.snapshot import Kept, Snapshot
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import Monotonic, Term
from tests.unit.consensus.bench import HEARTBEAT, T0, TIMEOUT, core, led


def test_leader_fail() -> None:
    """HashiCorp ``TestRaft_LeaderFail``: what the old leader took alone is lost, and nothing else."""
    bench = led(3)
    bench.propose("a", b"test")
    bench.down = {"a"}
    bench.nodes["a"].propose(b"fail", bench.now)
    bench.pass_time(4 * TIMEOUT)
    (leader,) = bench.leaders() - {"a"}
    assert bench.nodes[leader].term > 1
    bench.propose(leader, b"apply")
    bench.down = set()
    bench.pass_time(2 * TIMEOUT)
    assert [bench.data(name) for name in "abc"] == [[b"test", b"apply"]] * 3


def test_behind_follower() -> None:
    """HashiCorp ``TestRaft_BehindFollower``."""
    bench = led(3)
    bench.down = {"c"}
    bench.propose("a", *[b"test%d" % number for number in range(100)])
    bench.pass_time(TIMEOUT)
    bench.down = set()
    bench.pass_time(2 * TIMEOUT)
    assert bench.data("c") == [b"test%d" % number for number in range(100)]
    assert (bench.leaders(), bench.nodes["a"].term) == ({"a"}, 1)


def test_leader_id_propagated() -> None:
    """HashiCorp ``TestRaft_LeaderID_Propagated``."""
    bench = led(5)
    assert {raft.leader for raft in bench.nodes.values()} == {"a"}
    bench.nodes["a"].transfer(bench.now, "d")
    bench.pass_time(2 * HEARTBEAT)
    assert {raft.leader for raft in bench.nodes.values()} == {"d"}


def test_leader_lease_expire() -> None:
    """HashiCorp ``TestRaft_LeaderLeaseExpire``: both of two that are cut apart know of no leader any more."""
    bench = led(2)
    bench.cut("a", "b")
    bench.pass_time(3 * TIMEOUT)
    assert bench.leaders() == set()
    assert [raft.leader for raft in bench.nodes.values()] == [None, None]


# --- members ----------------------------------------------------------------------------------------------------------


def test_join_node_config_store() -> None:
    """HashiCorp ``TestRaft_JoinNode_ConfigStore``: all nodes see the same memberships, in the same order."""
    bench = led(1)
    for name in "bc":
        bench.join(name)
        bench.nodes["a"].add(name, name, bench.now)
        bench.pass_time(TIMEOUT)
    seen = {
        name: [membership_of(entry) for entry in applied if entry.kind == "members"]
        for name, applied in bench.applied.items()
    }
    assert seen["a"] == seen["b"] == seen["c"]
    assert [(set(m.voters), set(m.learners)) for m in seen["a"]] == [
        ({"a"}, set()),
        ({"a"}, {"b"}),
        ({"a", "b"}, set()),
        ({"a", "b"}, {"c"}),
        ({"a", "b", "c"}, set()),
    ]


def test_remove_leader_no_shutdown() -> None:
    """HashiCorp ``TestRaft_RemoveLeader_NoShutdown``."""
    bench = led(3)
    bench.propose("a", b"before")
    bench.nodes["a"].remove("a", bench.now)
    bench.settle()
    assert bench.nodes["a"].propose(b"after", bench.now) is None
    bench.pass_time(4 * TIMEOUT)
    (leader,) = bench.leaders()
    assert (leader in "bc", bench.nodes["a"].role) == (True, Role.FOLLOWER)
    bench.propose(leader, b"without it")
    assert [set(bench.nodes[name].log.membership.voters) for name in "abc"] == [{"b", "c"}] * 3
    assert (bench.data("a"), bench.data("b")) == ([b"before"], [b"before", b"without it"])


def test_remove_follower_split_cluster() -> None:
    """HashiCorp ``TestRaft_RemoveFollower_SplitCluster``: a minority can't vote others out of their majority."""
    bench = led(4)
    bench.cut("a", "c", "d")
    bench.cut("b", "c", "d")
    bench.nodes["a"].remove("b", bench.now)
    bench.pass_time(3 * TIMEOUT)
    assert bench.leaders() == set()
    assert all("b" in raft.log.settled_membership.voters for raft in bench.nodes.values())
    bench.cuts.clear()
    bench.pass_time(4 * TIMEOUT)
    (leader,) = bench.leaders()
    assert bench.nodes[leader].settled


def test_rejoin_follower() -> None:
    """HashiCorp ``TestRaft_ReJoinFollower``: one that was removed comes back with the log that it had."""
    bench = led(3)
    bench.propose("a", b"1")
    bench.nodes["a"].remove("c", bench.now)
    bench.pass_time(3 * TIMEOUT)
    bench.propose("a", b"2")
    assert bench.data("c") == [b"1"]
    bench.nodes["a"].add("c", "c", bench.now)
    bench.pass_time(TIMEOUT)
    assert [set(raft.log.membership.voters) for raft in bench.nodes.values()] == [set("abc")] * 3
    assert (bench.data("c"), bench.leaders(), bench.nodes["a"].term) == ([b"1", b"2"], {"a"}, 1)


def test_cluster_can_regain_stability_when_non_voter_with_higher_term_joins() -> None:
    """HashiCorp ``TestRaft_ClusterCanRegainStability_WhenNonVoterWithHigherTermJoin``."""
    bench = led(3)
    bench.down = {"c"}
    bench.nodes["a"].remove("c", bench.now)
    bench.settle()
    disk = bench.disks["c"]
    disk.state = HardState(21, None, disk.state.commit)
    bench.start("c")
    bench.nodes["a"].add("c", "c", bench.now)
    bench.down = set()
    bench.pass_time(6 * TIMEOUT)
    (leader,) = bench.leaders()
    assert (leader in "ab", bench.nodes[leader].term > 20) == (True, True)
    bench.propose(leader, *[b"test%d" % number for number in range(100)])
    bench.pass_time(TIMEOUT)
    assert set(bench.nodes["c"].log.membership.voters) == set("abc")
    assert len(bench.data("c")) == 100
    assert bench.leaders() == {leader}


def test_follower_removal_no_election() -> None:
    """HashiCorp ``TestRaft_FollowerRemovalNoElection``: one that starts again finds the leader, and stands not."""
    bench = led(3)
    bench.propose("a", b"x")
    bench.down = {"b"}
    bench.pass_time(TIMEOUT)
    bench.start("b")
    bench.down = set()
    bench.pass_time(3 * TIMEOUT)
    assert (bench.leaders(), bench.nodes["a"].term, bench.data("b")) == ({"a"}, 1, [b"x"])
    assert not any(isinstance(message, RequestVote) and sender == "b" for sender, _, message in bench.sent)


# --- snapshots --------------------------------------------------------------------------------------------------------


def test_snapshot_restore() -> None:
    """HashiCorp ``TestRaft_SnapshotRestore``, ``TestRaft_RestoreSnapshotOnStartup_Monotonic``."""
    bench = led(1)
    bench.propose("a", *[b"test%d" % number for number in range(100)])
    bench.nodes["a"].compact(b"a hundred", keep=10)
    bench.settle()
    assert (bench.disks["a"].start, len(bench.disks["a"].entries)) == (92, 10)
    again = bench.start("a")
    bench.settle()
    assert [(taken.index, taken.state) for _, taken in bench.restored] == [(102, b"a hundred")]
    assert (bench.applied["a"], again.log.start, again.log.last_index, again.log.commit) == ([], 92, 102, 102)


def test_send_snapshot_and_logs_follower() -> None:
    """HashiCorp ``TestRaft_SendSnapshotAndLogsFollower``, ``TestRaft_SendSnapshotFollower``; all have snapshots."""
    bench = led(3)
    bench.down = {"c"}
    bench.propose("a", *[b"test%d" % number for number in range(100)])
    bench.pass_time(2 * HEARTBEAT)
    for name in "ab":
        bench.nodes[name].compact(b"a hundred", keep=10)
    bench.propose("a", *[b"test%d" % number for number in range(100, 200)])
    bench.down = set()
    bench.pass_time(3 * TIMEOUT)
    assert [(name, taken.state) for name, taken in bench.restored] == [("c", b"a hundred")]
    assert bench.data("c") == [b"test%d" % number for number in range(100, 200)]


# --- verification of the leader (reads) -------------------------------------------------------------------------------


def test_verify_leader_fail() -> None:
    """HashiCorp ``TestRaft_VerifyLeader_Fail``: a later term on the other side is no confirmation."""
    bench = led(2)
    disk = bench.disks["b"]
    disk.state = HardState(5, None, disk.state.commit)
    bench.start("b")
    bench.read("a")
    bench.settle()
    assert bench.reads == [Read(0, None)]
    assert (bench.nodes["a"].role, bench.nodes["a"].leader) == (Role.FOLLOWER, None)


def test_verify_leader_partial_connect() -> None:
    """HashiCorp ``TestRaft_VerifyLeader_PartialConnect``."""
    bench = led(3)
    bench.down = {"b"}
    bench.read("a")
    bench.settle()
    assert bench.reads == [Read(0, 2)]


# --- transfers --------------------------------------------------------------------------------------------------------


def test_leadership_transfer_with_writes() -> None:
    """HashiCorp ``TestRaft_LeadershipTransferWithWrites``, ``...WithSevenNodes``: what was taken is kept, in order."""
    bench = led(7)
    taken, leader = [], "a"
    for number in range(60):
        data = b"%d" % number
        if number in {20, 40}:
            target = "cf"[number // 20 - 1]
            assert bench.nodes[leader].transfer(bench.now, target)
            assert bench.nodes[leader].propose(data, bench.now) is None
            bench.settle()
            leader = target
        else:
            bench.propose(leader, data)
            taken.append(data)
    bench.pass_time(TIMEOUT)
    assert bench.leaders() == {"f"}
    assert [bench.data(name) for name in "abcdefg"] == [taken] * 7


def test_leadership_transfer_leader_replication_timeout() -> None:
    """HashiCorp ``TestRaft_LeadershipTransferLeaderReplicationTimeout``."""
    bench = led(3)
    bench.lost = lambda _sender, to, message: to == "c" and isinstance(message, AppendEntries) and bool(message.entries)
    bench.propose("a", b"x")
    assert bench.nodes["a"].transfer(bench.now, "c")
    bench.pass_time(TIMEOUT + 0.01)
    assert not any(isinstance(message, TimeoutNow) for _, _, message in bench.sent)
    assert bench.nodes["a"].propose(b"y", bench.now) is not None


def test_leadership_transfer_ignores_nonvoters() -> None:
    """HashiCorp ``TestRaft_LeadershipTransferIgnoresNonvoters``."""
    bench = led(1)
    bench.join("b")
    bench.lost = lambda sender, _to, _message: sender == "b"
    bench.nodes["a"].add("b", "b", bench.now)
    bench.pass_time(2 * HEARTBEAT)
    assert set(bench.nodes["a"].log.membership.learners) == {"b"}
    assert not bench.nodes["a"].transfer(bench.now)
    assert not bench.nodes["a"].transfer(bench.now, "b")


# --- what that file would like to test of appendEntries, and lists at its end -----------------------------------------


def compacted() -> Raft:
    """Return core a with entries 4 (committed) to 6 of terms 2, 2 and 3, behind a snapshot of 1 to 3 of term 1."""
    snapshot = Snapshot(3, 1, membership.of("abc"), {}, None, {}, b"")
    log = [Entry(index, term, "data", b"%d" % index) for index, term in ((4, 2), (5, 2), (6, 3))]
    raft = Raft(
        node="a",
        bootstrap=Membership({}),
        settings=core("a", 3)._settings,
        hard_state=HardState(3, None, 4),
        kept=Kept(log, 3, 1, snapshot),
        random=core("a", 3)._random,
        now=T0,
    )
    raft.ready()
    return raft


@pytest.mark.parametrize(
    ("previous", "term", "accepted"),
    [(2, 1, True), (3, 1, True), (3, 2, False), (5, 2, True), (5, 3, False), (6, 3, True), (7, 3, False)],
    ids=["in the snapshot", "its last", "its last, wrong", "an entry", "an entry, wrong", "the last", "past the end"],
)
def test_append_entries_previous_entry_check(previous: int, term: Term, accepted: bool) -> None:
    """HashiCorp's list, "Previous entry check": what a snapshot covers is committed, so it matches."""
    raft = compacted()
    raft.step("b", AppendEntries(3, previous, term, 4, ()), T0)
    ((_, reply),) = raft.ready().messages
    assert isinstance(reply, AppendEntriesReply)
    assert (reply.accepted, reply.index, raft.log.last_index) == (accepted, previous, 6)


@pytest.mark.parametrize(
    ("previous", "terms", "log", "truncated", "saved"),
    [
        (6, (3, 3), [2, 2, 3, 3, 3], None, [7, 8]),
        (4, (2, 3), [2, 2, 3], None, []),
        (5, (3, 3), [2, 2, 3, 3], None, [7]),
        (5, (4, 4), [2, 2, 4, 4], 6, [6, 7]),
        (4, (2, 4), [2, 2, 4], 6, [6]),
        (2, (1, 2, 2, 3, 3), [2, 2, 3, 3], None, [7]),
    ],
    ids=["all new", "all there", "some there, some new", "all conflict", "some there, some conflict", "from before"],
)
def test_append_entries_new_entries(
    previous: int, terms: tuple[Term, ...], log: list[Term], truncated: int | None, saved: list[int]
) -> None:
    """HashiCorp's list, "New entries": what is there is never removed, and what conflicts is."""
    raft = compacted()
    new = tuple(
        Entry(previous + place, term, "data", b"%d" % (previous + place)) for place, term in enumerate(terms, 1)
    )
    before = {2: 1, 4: 2, 5: 2, 6: 3}[previous]
    raft.step("b", AppendEntries(4, previous, before, 4, new), T0)
    ready = raft.ready()
    assert [entry.term for entry in raft.log.entries(4, 9)] == log
    assert (ready.truncate_from, [entry.index for entry in ready.entries]) == (truncated, saved)


def test_append_entries_that_contradict_what_is_committed_are_refused() -> None:
    """HashiCorp's list, "Commit index updated properly": nothing committed is ever replaced."""
    raft = compacted()
    with pytest.raises(RemoteError, match="committed"):
        raft.step("b", AppendEntries(4, 3, 1, 6, (Entry(4, 4, "data", b""),)), T0)
    assert (raft.log.last_index, raft.log.commit) == (6, 4)
    with pytest.raises(OperatorError):
        raft.remove("b", Monotonic(0.0))
