"""Sentences and figures of the Raft paper; named after etcd's ``raft_paper_test.go``, which does the same.

Elsewhere: figure 7 with all six followers at once, and figure 8 (c) (``test_replication``); figure 13
(``test_snapshots``). No meaning here: figures 10 and 11 (joint consensus; one member changes at a time instead).
"""

from collections import Counter

import pytest

from appliance.consensus.core import Raft
from appliance.consensus.messages import AppendEntries, AppendEntriesReply, Entry, HardState, Message, RequestVote
from appliance.consensus.messages import RequestVoteReply as Vote
from appliance.consensus.ready import Role
from appliance.words.ids import Monotonic, Term
from tests.unit.consensus.bench import (
    HEARTBEAT,
    T0,
    TIMEOUT,
    Bench,
    accept,
    candidate,
    core,
    election_due,
    entries,
    in_state,
    leading,
    led,
)
from tests.unit.consensus.test_replication import FIGURE_7


def said(raft: Raft) -> list[tuple[str, Message]]:
    """Return what a core wants to send."""
    return list(raft.ready().messages)


def terms(log: list[Entry] | tuple[Entry, ...]) -> list[Term]:
    return [entry.term for entry in log]


def follower() -> Raft:
    """Return core a, which b leads in term 1."""
    raft = core("a", 3)
    raft.step("b", AppendEntries(1, 0, 0, 0, ()), T0)
    raft.ready()
    return raft


# --- 5.1 and 5.2: terms and elections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["follower", "pre-candidate", "candidate", "leader"])
def test_update_term_from_message(state: str) -> None:
    """etcd ``TestFollowerUpdateTermFromMessage``, ``TestCandidate...``, ``TestLeader...``; section 5.1."""
    raft = in_state(state)
    raft.step("b", AppendEntries(2, 0, 0, 0, ()), T0)
    assert (raft.term, raft.role, raft.leader) == (2, Role.FOLLOWER, "b")


def test_reject_stale_term_message() -> None:
    """etcd ``TestRejectStaleTermMessage``, ``TestStepIgnoreOldTermMsg``; section 5.1."""
    raft = core("a", 3, state=HardState(2, None, 0))
    raft.step("b", AppendEntries(1, 0, 0, 1, tuple(entries(1))), T0)
    ready = raft.ready()
    assert (raft.log.last_index, raft.leader, ready.must_save) == (0, None, False)
    assert ready.messages == (("b", AppendEntriesReply(2, False, 0)),)


def test_start_as_follower() -> None:
    """etcd ``TestStartAsFollower``; section 5.2. So does a node that led when it ended."""
    assert core("a", 3).role is Role.FOLLOWER
    assert led(3).start("a").role is Role.FOLLOWER


def test_leader_bcast_beat() -> None:
    """etcd ``TestLeaderBcastBeat``; section 5.2."""
    raft = leading(3)
    accept(raft, "b", "c")
    raft.ready()
    due = raft.next_deadline
    assert due == HEARTBEAT
    raft.tick(due)
    assert [(to, m.entries, m.commit) for to, m in said(raft) if isinstance(m, AppendEntries)] == [
        ("b", (), 2),
        ("c", (), 2),
    ]
    assert raft.next_deadline == 2 * HEARTBEAT


@pytest.mark.parametrize("state", ["follower", "candidate"])
def test_nonleader_start_election(state: str) -> None:
    """etcd ``TestFollowerStartElection``, ``TestCandidateStartNewElection``; section 5.2, with PreVote before."""
    raft = follower() if state == "follower" else in_state(state)
    raft.tick(election_due(raft))
    assert (raft.role, raft.term) == (Role.CANDIDATE, 1), "asking costs no term"
    assert said(raft) == [(to, RequestVote(2, 0, 0, True, False)) for to in "bc"]
    raft.step("b", Vote(2, True, True), T0)
    ready = raft.ready()
    assert (raft.role, raft.term) == (Role.CANDIDATE, 2)
    assert ready.hard_state == HardState(2, "a", 0), "it votes for itself"
    assert list(ready.messages) == [(to, RequestVote(2, 0, 0, False, False)) for to in "bc"]


@pytest.mark.parametrize(
    ("size", "votes", "role"),
    [
        (3, {"b": True, "c": True}, Role.LEADER),
        (3, {"b": True}, Role.LEADER),
        (5, {"b": True, "c": True, "d": True, "e": True}, Role.LEADER),
        (5, {"b": True, "c": True}, Role.LEADER),
        (3, {"b": False, "c": False}, Role.FOLLOWER),
        (5, {"b": False, "c": False, "d": False}, Role.FOLLOWER),
        (5, {"b": True, "c": False, "d": False, "e": False}, Role.FOLLOWER),
        (3, {}, Role.CANDIDATE),
        (5, {"b": True}, Role.CANDIDATE),
        (5, {"b": False, "c": False}, Role.CANDIDATE),
    ],
)
def test_leader_election_in_one_round_rpc(size: int, votes: dict[str, bool], role: Role) -> None:
    """etcd ``TestLeaderElectionInOneRoundRPC``; section 5.2: won, lost, or unclear."""
    raft = candidate(size)
    for voter, granted in votes.items():
        raft.step(voter, Vote(1, False, granted), T0)
    assert (raft.role, raft.term) == (role, 1)


@pytest.mark.parametrize(
    ("voted_for", "asks", "granted"),
    [(None, "b", True), (None, "c", True), ("b", "b", True), ("c", "c", True), ("b", "c", False), ("c", "b", False)],
)
def test_follower_vote(voted_for: str | None, asks: str, granted: bool) -> None:
    """etcd ``TestFollowerVote``; section 5.2: at most one candidate a term, first come, first served."""
    raft = core("a", 3, state=HardState(1, voted_for, 0))
    raft.step(asks, RequestVote(1, 0, 0, False, False), T0)
    ready = raft.ready()
    assert ready.messages == ((asks, Vote(1, False, granted)),)
    assert ready.hard_state == (HardState(1, asks, 0) if granted and voted_for is None else None)


@pytest.mark.parametrize("term", [1, 2])
def test_candidate_fallback(term: Term) -> None:
    """etcd ``TestCandidateFallback``; section 5.2: a leader of its term, or a later one, is legitimate."""
    raft = candidate(3)
    raft.step("b", AppendEntries(term, 0, 0, 0, ()), T0)
    assert (raft.role, raft.term, raft.leader) == (Role.FOLLOWER, term, "b")
    raft.step("c", Vote(1, False, True), T0)
    assert raft.role is Role.FOLLOWER, "a vote that comes too late changes nothing"


def test_nonleader_election_timeout_randomized() -> None:
    """etcd ``TestFollowerElectionTimeoutRandomized``, ``TestCandidateElectionTimeoutRandomized``; section 5.2."""
    for role in (Role.FOLLOWER, Role.CANDIDATE):
        raft, seen, now = follower(), Counter[int](), T0
        for _ in range(500):
            if role is Role.FOLLOWER:
                raft.step("b", AppendEntries(1, 0, 0, 0, ()), now)
            else:
                now = election_due(raft)
                raft.tick(now)
            seen[int((election_due(raft) - now) / TIMEOUT * 10)] += 1
        assert set(seen) == set(range(10, 20)), "from one timeout to two, every part of it"
        assert max(seen.values()) < 100


def test_nonleaders_election_timeout_nonconflict() -> None:
    """etcd ``TestFollowersElectionTimeoutNonconflict``, ``TestCandidates...``; section 5.2: mostly one stands alone."""
    rafts = [core(name, 5) for name in "abcde"]
    conflicts = 0
    for _ in range(1000):
        for raft in rafts:
            raft.step("z", AppendEntries(1, 0, 0, 0, ()), T0)
        first, second = sorted(raft.next_deadline for raft in rafts)[:2]
        conflicts += second - first < TIMEOUT / 20
    assert 0 < conflicts <= 300


# --- 5.3: replication -------------------------------------------------------------------------------------------------


def test_leader_start_replication() -> None:
    """etcd ``TestLeaderStartReplication``; section 5.3."""
    raft = leading(3)
    accept(raft, "b", "c")
    raft.ready()
    assert raft.propose(b"x", T0) == (3, 1)
    assert (raft.log.last_index, raft.log.commit) == (3, 2)
    ready, entry = raft.ready(), Entry(3, 1, "data", b"x")
    assert ready.entries == (entry,)
    assert [(to, m) for to, m in ready.messages] == [(to, AppendEntries(1, 2, 1, 2, (entry,), 1)) for to in "bc"]


def test_leader_commit_entry() -> None:
    """etcd ``TestLeaderCommitEntry``; section 5.3."""
    raft = leading(3)
    accept(raft, "b", "c")
    raft.propose(b"x", T0)
    raft.ready()
    accept(raft, "b")
    ready = raft.ready()
    assert [entry.data for entry in ready.committed] == [b"x"]
    assert [(to, m.commit) for to, m in ready.messages if isinstance(m, AppendEntries)] == [("b", 3), ("c", 3)]


@pytest.mark.parametrize(
    ("size", "acceptors", "committed"),
    [
        (3, "", False),
        (3, "b", True),
        (3, "bc", True),
        (5, "", False),
        (5, "b", False),
        (5, "bb", False),
        (5, "bc", True),
        (5, "bcde", True),
    ],
)
def test_leader_acknowledge_commit(size: int, acceptors: str, committed: bool) -> None:
    """etcd ``TestLeaderAcknowledgeCommit``; section 5.3."""
    raft = leading(size)
    accept(raft, *"bcdefg"[: size - 1])
    raft.propose(b"x", T0)
    accept(raft, *acceptors)
    assert raft.log.commit == (3 if committed else 2)


@pytest.mark.parametrize("before", [(), (2,), (1, 2), (1,)])
def test_leader_commit_preceding_entries(before: tuple[Term, ...]) -> None:
    """etcd ``TestLeaderCommitPrecedingEntries``; section 5.3: also those that earlier leaders made."""
    raft = leading(3, entries(*before), HardState(2, None, 0))
    raft.propose(b"x", T0)
    accept(raft, "b")
    assert terms(raft.ready().committed) == [*before, 3, 3, 3]


@pytest.mark.parametrize(("count", "commit"), [(1, 1), (2, 2), (2, 1), (2, 0)])
def test_follower_commit_entry(count: int, commit: int) -> None:
    """etcd ``TestFollowerCommitEntry``; section 5.3."""
    raft, log = follower(), entries(*[1] * count)
    raft.step("b", AppendEntries(1, 0, 0, commit, tuple(log)), T0)
    assert raft.ready().committed == tuple(log[:commit])
    assert raft.log.commit == commit


@pytest.mark.parametrize(
    ("index", "term", "reply"),
    [
        (0, 0, AppendEntriesReply(2, True, 0)),
        (1, 1, AppendEntriesReply(2, True, 1)),
        (2, 2, AppendEntriesReply(2, True, 2)),
        (2, 1, AppendEntriesReply(2, False, 2, 1, 1)),
        (3, 2, AppendEntriesReply(2, False, 3, 2, 2)),
    ],
)
def test_follower_check_msg_app(index: int, term: Term, reply: AppendEntriesReply) -> None:
    """etcd ``TestFollowerCheckMsgApp``; section 5.3: refused unless the entry before is there, with that term."""
    raft = core("a", 3, entries(1, 2), HardState(2, None, 1))
    raft.step("b", AppendEntries(2, index, term, 0, ()), T0)
    assert said(raft) == [("b", reply)]


@pytest.mark.parametrize(
    ("previous", "term", "new", "log", "truncated", "saved"),
    [
        (2, 2, (3,), [1, 2, 3], None, [3]),
        (1, 1, (3, 4), [1, 3, 4], 2, [3, 4]),
        (0, 0, (1,), [1, 2], None, []),
        (0, 0, (3,), [3], 1, [3]),
        (0, 0, (1, 2, 3), [1, 2, 3], None, [3]),
    ],
)
def test_follower_append_entries(
    previous: int, term: Term, new: tuple[Term, ...], log: list[Term], truncated: int | None, saved: list[Term]
) -> None:
    """etcd ``TestFollowerAppendEntries``; section 5.3: a conflict deletes, and nothing else does."""
    raft = core("a", 3, entries(1, 2))
    added = tuple(Entry(previous + place, t, "data", b"new") for place, t in enumerate(new, 1))
    raft.step("b", AppendEntries(4, previous, term, 0, added), T0)
    ready = raft.ready()
    assert terms(list(raft.log.entries(1, 9))) == log
    assert (ready.truncate_from, terms(ready.entries)) == (truncated, saved)


@pytest.mark.parametrize("which", FIGURE_7)
def test_leader_sync_follower_log(which: str) -> None:
    """etcd ``TestLeaderSyncFollowerLog``; section 5.3, figure 7: each alone, with a third node that votes."""
    log = entries(1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    bench = Bench(3, {"a": log, "b": entries(*FIGURE_7[which])}, {"c": HardState(7, None, 0)})
    for _ in range(3):
        if not bench.leaders():
            bench.stand("a")
    bench.propose("a", b"x")
    assert bench.leaders() == {"a"}
    expected = bench.disks["a"].entries
    assert terms(expected) == [*terms(log), *[bench.nodes["a"].term] * 3]
    assert bench.disks["b"].entries == bench.disks["c"].entries == expected


# --- 5.4: safety ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [(1,), (1, 2)])
def test_vote_request(log: tuple[Term, ...]) -> None:
    """etcd ``TestVoteRequest``; section 5.4.1: what the candidate's log ends with goes to all others."""
    raft = core("a", 3)
    raft.step("b", AppendEntries(log[-1], 0, 0, 0, tuple(entries(*log))), T0)
    raft.ready()
    raft.tick(raft.next_deadline)
    raft.step("c", Vote(log[-1] + 1, True, True), T0)
    expected = [
        (to, RequestVote(log[-1] + 1, len(log), log[-1], trial, False)) for trial in (True, False) for to in "bc"
    ]
    assert said(raft) == expected


@pytest.mark.parametrize(
    ("log", "last_term", "last_index", "granted"),
    [
        ((1,), 1, 1, True),
        ((1,), 1, 2, True),
        ((1, 1), 1, 1, False),
        ((1,), 2, 1, True),
        ((1,), 2, 2, True),
        ((1, 1), 2, 1, True),
        ((2,), 1, 1, False),
        ((2,), 1, 2, False),
        ((2, 2), 1, 1, False),
    ],
)
def test_voter(log: tuple[Term, ...], last_term: Term, last_index: int, granted: bool) -> None:
    """etcd ``TestVoter``; section 5.4.1."""
    raft = core("a", 3, entries(*log))
    raft.step("b", RequestVote(3, last_index, last_term, False, False), T0)
    assert said(raft) == [("b", Vote(3, False, granted))]


@pytest.mark.parametrize(("acknowledged", "commit"), [(1, 0), (2, 0), (3, 3), (4, 4)])
def test_leader_only_commits_log_from_current_term(acknowledged: int, commit: int) -> None:
    """etcd ``TestLeaderOnlyCommitsLogFromCurrentTerm``; section 5.4.2."""
    raft = leading(3, entries(1, 2))
    accept(raft, "b", upto=acknowledged)
    assert raft.log.commit == commit


@pytest.mark.parametrize("replicated", [False, True])
def test_figure_8_to_its_end(replicated: bool) -> None:
    """Figure 8: (c), then (d) if the leader's own entry is not on a majority when it crashes, else (e)."""
    logs = {"a": entries(1, 2), "b": entries(1, 2), "c": entries(1), "d": entries(1), "e": entries(1, 3)}
    voted = dict.fromkeys("cd", HardState(3, "e", 0))
    bench = Bench(5, logs, voted)
    bench.lost = lambda sender, _to, message: sender == "a" and isinstance(message, AppendEntries)
    bench.down = {"e"}
    while not bench.leaders():
        bench.stand("a")
    a = bench.nodes["a"]
    assert a.term == 4
    old = Entry(2, 2, "data", b"2")
    for name in "bc":  # (c): the entry of term 2 is on a, b and c
        bench.nodes[name].step("a", AppendEntries(4, 1, 1, 0, (old,)), bench.now)
    bench.settle()
    assert [bench.disks[name].entries[1] for name in "abc"] == [old] * 3
    assert a.log.commit == 0, "and is not committed all the same"
    if replicated:
        bench.lost = lambda _sender, _to, _message: False
        bench.propose("a", b"of term 4")
        assert a.log.commit == a.log.last_index
    bench.down = {"a"}
    for _ in range(6):
        bench.stand("e")
    survived = [bench.disks[name].entries[1].term for name in "bc"]
    if replicated:  # (e): nobody without it can win any more
        assert (bench.nodes["e"].role is Role.LEADER, survived) == (False, [2, 2])
    else:  # (d): overwritten
        assert (bench.nodes["e"].settled, survived) == (True, [3, 3])


def test_timing_requirement() -> None:
    """Section 5.6: the defaults leave room for lost heartbeats, and the broadcast time is far below them."""
    assert 3 * HEARTBEAT < TIMEOUT


def test_idempotent_retries() -> None:
    """Section 5.5: a follower or candidate that gets the same request again does nothing new."""
    raft = follower()
    message = AppendEntries(1, 0, 0, 1, tuple(entries(1, 1)), 5)
    raft.step("b", message, Monotonic(0.1))
    first = raft.ready()
    raft.step("b", message, Monotonic(0.2))
    again = raft.ready()
    assert again.messages == first.messages
    assert (again.must_save, again.committed) == (False, ())
