"""Replication and commitment, after the lists of etcd's ``raft_test.go`` and ``testdata``.

Elsewhere: what cites the paper (``test_paper``); ``TestSingleNodeCommit`` (``test_elections``).

No meaning here:

- ``TestProgressLeader``, ``TestBcastBeat``: the leader keeps no record of itself; a heartbeat carries the whole commit,
  and the follower takes of it what its log agrees with.
- ``TestUncommittedEntryLimit``, flow control by bytes: entries and datagrams are bounded; the window counts entries,
  and a leader without its majority takes nothing after an election timeout.
- ``TestProposalByProxy``: a follower forwards nothing; who asks goes to the leader.
- ``TestRecvMsgUnreachable``: datagrams report nothing; a loss shows by the lack of progress between two heartbeats.
- ``async_storage_writes*.txt``, ``TestRawNode*``: one ``Ready`` at a time, carried out in order.
"""

import pytest

from appliance.consensus import membership
from appliance.consensus.core import Raft
from appliance.consensus.leadership import WINDOW, Leadership
from appliance.consensus.log import Log
from appliance.consensus.messages import AppendEntries, AppendEntriesReply, Entry, HardState
from appliance.consensus.snapshot import Kept
from appliance.words.ids import Term
from appliance.words.settings import Consensus
from tests.unit.consensus.bench import HEARTBEAT, T0, TIMEOUT, Bench, accept, core, entries, leading, led


def appends(raft: Raft, to: str) -> list[AppendEntries]:
    """Return what a core wants to send to one node."""
    return [m for name, m in raft.ready().messages if name == to and isinstance(m, AppendEntries)]


# --- the leader's view of a follower ----------------------------------------------------------------------------------


def test_progress_paused() -> None:
    """etcd ``TestProgressPaused``, ``TestSendAppendForProgressProbe``: while the logs may differ, one at a time."""
    raft = leading(2)
    for _ in range(3):
        raft.propose(b"x", T0)
    assert appends(raft, "b") == []
    raft.tick(raft.next_deadline)
    (probe,) = appends(raft, "b")
    assert (probe.previous_index, len(probe.entries)) == (0, 5), "with the heartbeat, all there is"


def test_send_append_for_progress_replicate() -> None:
    """etcd ``TestSendAppendForProgressReplicate``, ``TestLeaderIncreaseNext``: then each proposal at once, once."""
    raft = leading(2)
    accept(raft, "b")
    raft.ready()
    for number in range(10):
        raft.propose(b"x", T0)
        (message,) = appends(raft, "b")
        assert [entry.index for entry in message.entries] == [3 + number]


def test_msg_app_resp_wait_reset() -> None:
    """etcd ``TestMsgAppRespWaitReset``: who has answered gets the next entry, who has not waits."""
    raft = leading(3)
    accept(raft, "b")
    raft.ready()
    raft.propose(b"x", T0)
    ready = raft.ready()
    assert [to for to, m in ready.messages if isinstance(m, AppendEntries) and m.entries] == ["b"]
    accept(raft, "c", upto=2)
    (message,) = appends(raft, "c")
    assert [entry.index for entry in message.entries] == [3]


def test_progress_flow_control() -> None:
    """etcd ``TestProgressFlowControl``, ``TestMsgAppFlowControlFull``, ``...MoveForward``, ``replicate_pause.txt``."""
    raft = leading(3)
    accept(raft, "b", "c")
    raft.ready()
    for _ in range(WINDOW + 20):
        raft.propose(b"x", T0)
    sent = [entry.index for message in appends(raft, "b") for entry in message.entries]
    assert sent == list(range(3, 3 + WINDOW))
    accept(raft, "b", upto=12)
    sent = [entry.index for message in appends(raft, "b") for entry in message.entries]
    assert sent == list(range(3 + WINDOW, 13 + WINDOW)), "as many as were acknowledged, and none twice"
    accept(raft, "b", upto=7)
    assert appends(raft, "b") == [], "an older acknowledgement frees nothing"


def test_handle_heartbeat_resp() -> None:
    """etcd ``TestHandleHeartbeatResp``, ``TestProgressResumeByHeartbeatResp``, ``heartbeat_resp_recovers...txt``."""
    raft = leading(2)
    for _ in range(3):
        raft.tick(raft.next_deadline)
        (probe,) = appends(raft, "b")
        assert [entry.index for entry in probe.entries] == [1, 2], "again until it is acknowledged"
    accept(raft, "b")
    raft.ready()
    raft.tick(raft.next_deadline)
    (beat,) = appends(raft, "b")
    assert (beat.previous_index, beat.entries) == (2, ())


@pytest.mark.parametrize(
    ("reply", "previous", "commit"),
    [
        (AppendEntriesReply(2, False, 5, 5, 1), None, 0),  # of something that was never asked: stale
        (AppendEntriesReply(2, False, 2, 1, 1), 1, 0),
        (AppendEntriesReply(2, True, 4), 4, 4),
        (AppendEntriesReply(2, True, 0), None, 0),  # of a keep-alive: says nothing of the probe
    ],
)
def test_leader_app_resp(reply: AppendEntriesReply, previous: int | None, commit: int) -> None:
    """etcd ``TestLeaderAppResp``: what each answer to the first probe (after entry 2) has the leader send next."""
    raft = leading(3, entries(1, 1))
    raft.propose(b"x", T0)
    raft.step("b", reply, T0)
    sent = appends(raft, "b")
    assert ([m.previous_index for m in sent][:1], raft.log.commit) == ([] if previous is None else [previous], commit)


@pytest.mark.parametrize(
    ("leader", "follower", "hint", "next_previous"),
    [
        ((1, 2, 2, 4, 4, 4, 4), (1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3), (7, 3), (3, 2)),
        ((1, 2, 2, 3, 4, 4, 4, 5), (1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3), (8, 3), (4, 3)),
        ((1, 1, 1, 1), (1, 2, 2, 4), (1, 1), (1, 1)),
        ((1, 1, 1, 1, 1, 1), (1, 2, 2, 4), (1, 1), (1, 1)),
        ((1, 1, 1, 1), (1, 2, 2, 4, 4, 4), (1, 1), (1, 1)),
        ((1, 1, 1, 4, 5), (1, 1, 1, 4), (4, 4), (4, 4)),
        ((2, 5, 5, 5, 5, 5, 5, 5, 5), (2, 4, 4, 4, 4, 4), (6, 4), (1, 2)),
        ((2, 2, 2, 2, 2), (2, 4, 4, 4, 4, 4, 4, 4), (1, 2), (1, 2)),
    ],
)
def test_fast_log_rejection(
    leader: tuple[Term, ...], follower: tuple[Term, ...], hint: tuple[int, Term], next_previous: tuple[int, Term]
) -> None:
    """etcd ``TestFastLogRejection``, ``probe_and_replicate.txt``: one refusal skips all that can't be equal."""
    a = leading(3, entries(*leader), HardState(8, None, 0))
    b = core("b", 3, entries(*follower), HardState(9, "a", 0))
    a.tick(a.next_deadline)
    (probe,) = appends(a, "b")
    assert probe.previous_index == len(leader)
    b.step("a", probe, T0)
    ((_, reply),) = b.ready().messages
    assert isinstance(reply, AppendEntriesReply)
    assert (reply.accepted, (reply.hint_index, reply.hint_term)) == (False, hint)
    a.step("b", reply, T0)
    (again,) = appends(a, "b")
    assert (again.previous_index, again.previous_term) == next_previous


def test_log_replication_with_reordered_message() -> None:
    """etcd ``TestLogReplicationWithReorderedMessage``: a refusal that comes late does not take the leader back."""
    a, b = leading(2), core("b", 2)
    accept(a, "b", upto=2)
    b.step("a", AppendEntries(1, 0, 0, 2, tuple(a.log.entries(1, 2))), T0)
    a.ready()
    b.ready()
    messages = []
    for data in (b"1", b"2"):
        a.propose(data, T0)
        messages += appends(a, "b")
    b.step("a", messages[1], T0)
    ((_, refusal),) = b.ready().messages
    b.step("a", messages[0], T0)
    ((_, accepted),) = b.ready().messages
    assert isinstance(refusal, AppendEntriesReply)
    assert isinstance(accepted, AppendEntriesReply)
    assert (refusal.accepted, accepted.accepted) == (False, True)
    a.step("b", accepted, T0)
    a.ready()
    a.step("b", refusal, T0)
    assert appends(a, "b") == [], "it agrees as far as that already"
    for _ in range(2):
        a.tick(a.next_deadline)
    again = appends(a, "b")[-1]
    assert (again.previous_index, [entry.index for entry in again.entries]) == (3, [4])


def test_a_new_leader_sends_no_follower_what_it_has() -> None:
    """Section 5.3: the leader begins after its own last entry, and goes back only when it is refused."""
    log = entries(*[1] * 300)
    bench = Bench(3, dict.fromkeys("abc", log))
    bench.stand("a")
    bench.pass_time(TIMEOUT)
    sent = {m.previous_index for _, to, m in bench.sent if isinstance(m, AppendEntries)}
    assert (bench.nodes["c"].log.commit, min(sent)) == (302, 300)


def test_a_keep_alive_that_is_answered_takes_no_follower_back() -> None:
    """While the leader's first write is under way it sends those, which ask about nothing but entry 0."""
    raft = leading(3, entries(*[1] * 300))
    for to, message in raft.keep_alive():
        assert isinstance(message, AppendEntries)
        raft.step(to, AppendEntriesReply(2, True, message.previous_index), T0)
    assert appends(raft, "b") == []
    accept(raft, "b")
    assert (appends(raft, "b")[-1].previous_index, raft.log.commit) == (302, 302)


# --- what is committed ------------------------------------------------------------------------------------------------


def test_log_replication_over_a_change_of_leader() -> None:
    """etcd ``TestLogReplication``, its second case."""
    bench = led(3)
    bench.propose("a", b"1")
    bench.down = {"a"}
    bench.stand("b")
    bench.down = set()
    bench.propose("b", b"2")
    bench.pass_time(2 * HEARTBEAT)
    assert bench.data("a") == bench.data("b") == bench.data("c") == [b"1", b"2"]


def half_replicated() -> Bench:
    """Return a cluster of five in which entries 3 and 4 of a's term are on a and b only."""
    bench = led(5)
    bench.cut("a", "c", "d", "e")
    bench.propose("a", b"1", b"2")
    assert bench.nodes["a"].log.commit == 2
    bench.cuts.clear()
    bench.down = {"a"}
    return bench


def test_cannot_commit_without_new_term_entry() -> None:
    """etcd ``TestCannotCommitWithoutNewTermEntry``: not by the count, as long as the new leader's own is not there."""
    bench = half_replicated()
    bench.lost = lambda _sender, _to, message: isinstance(message, AppendEntries) and message.term > 1
    bench.stand("b")
    b = bench.nodes["b"]
    for name in "cde":
        bench.nodes[name].step("b", AppendEntries(2, 2, 1, 2, tuple(b.log.entries(3, 4))), bench.now)
    bench.settle()
    assert [len(bench.disks[name].entries) for name in "cde"] == [4] * 3
    assert (b.role.value, b.log.commit) == ("leader", 2)
    bench.lost = lambda _sender, _to, _message: False
    bench.propose("b", b"3")
    bench.pass_time(2 * HEARTBEAT)
    assert bench.data("c") == [b"1", b"2", b"3"]


def test_commit_without_new_term_entry() -> None:
    """etcd ``TestCommitWithoutNewTermEntry``: the no-op commits them, without a proposal."""
    bench = half_replicated()
    bench.stand("b")
    assert bench.nodes["b"].log.commit == bench.nodes["b"].log.last_index == 5
    assert bench.data("c") == bench.data("b") == [b"1", b"2"]


@pytest.mark.parametrize(
    ("size", "down", "commits"), [(3, "", True), (3, "c", True), (3, "bc", False), (5, "bc", True)]
)
def test_proposal(size: int, down: str, commits: bool) -> None:
    """etcd ``TestProposal``."""
    bench = led(size)
    bench.down = set(down)
    bench.propose("a", b"x")
    assert bench.data("a") == ([b"x"] if commits else [])


@pytest.mark.parametrize(
    ("others", "log", "term", "commit"),
    [
        ((), (1, 2), 2, 2),
        ((), (1,), 2, 0),
        ((1, 1), (1, 2), 2, 0),
        ((1, 1), (1, 1), 1, 1),
        ((1, 1), (1, 1), 2, 0),
        ((1, 2), (1, 2), 2, 2),
        ((1, 2), (1, 1), 2, 0),
        ((1, 1, 1), (1, 1), 1, 1),
        ((1, 1, 2), (1, 1), 1, 1),
        ((1, 1, 2), (1, 2), 2, 0),
        ((1, 2, 2), (1, 2), 2, 2),
        ((1, 2, 2), (1, 1), 2, 0),
    ],
)
def test_commit(others: tuple[int, ...], log: tuple[Term, ...], term: Term, commit: int) -> None:
    """etcd ``TestCommit``: what a majority holds, of the leader's term; the leader holds its whole log."""
    names = "abcd"[: len(others) + 1]
    held = Log(Kept(entries(*log)), 0, membership.of(names))
    leadership = Leadership(node="a", term=term, log=held, settings=Consensus(), send=lambda _to, _m: None, now=T0)
    for name, match in zip(names[1:], others, strict=True):
        leadership.on_reply(name, AppendEntriesReply(term, True, match), T0)
    leadership.advance(T0)
    assert held.commit == commit


@pytest.mark.parametrize(
    ("message", "last_index", "commit", "accepted"),
    [
        (AppendEntries(3, 2, 3, 3, ()), 2, 0, False),
        (AppendEntries(2, 3, 2, 3, ()), 2, 0, False),
        (AppendEntries(2, 1, 1, 1, ()), 2, 1, True),
        (AppendEntries(2, 0, 0, 1, (Entry(1, 2, "data", b""),)), 1, 1, True),
        (AppendEntries(2, 2, 2, 3, (Entry(3, 2, "data", b""), Entry(4, 2, "data", b""))), 4, 3, True),
        (AppendEntries(2, 2, 2, 4, (Entry(3, 2, "data", b""),)), 3, 3, True),
        (AppendEntries(2, 1, 1, 4, (Entry(2, 2, "data", b""),)), 2, 2, True),
        (AppendEntries(2, 1, 1, 3, ()), 2, 1, True),
        (AppendEntries(2, 2, 2, 3, ()), 2, 2, True),
    ],
)
def test_handle_msg_app(message: AppendEntries, last_index: int, commit: int, accepted: bool) -> None:
    """etcd ``TestHandleMsgApp``: figure 2, AppendEntries receiver; the commit goes up to the last new entry."""
    raft = core("a", 3, entries(1, 2))
    raft.step("b", message, T0)
    ((_, reply),) = raft.ready().messages
    assert isinstance(reply, AppendEntriesReply)
    assert (raft.log.last_index, raft.log.commit, reply.accepted) == (last_index, commit, accepted)


@pytest.mark.parametrize("commit", [1, 2, 3])
def test_handle_heartbeat(commit: int) -> None:
    """etcd ``TestHandleHeartbeat``, ``commit_index_regression.txt``: a late one never takes a commit back."""
    raft = core("a", 2, entries(1, 2, 3), HardState(3, None, 2))
    raft.step("b", AppendEntries(3, 3, 3, commit, ()), T0)
    assert raft.log.commit == max(2, commit)


def test_lagging_commit() -> None:
    """etcd ``lagging_commit.txt``: the heartbeat tells the commit when the message that told it was lost."""
    bench = led(3)
    bench.lost = lambda _sender, to, message: to == "c" and isinstance(message, AppendEntries) and message.commit == 3
    bench.propose("a", b"x")
    assert [bench.nodes[name].log.commit for name in "abc"] == [3, 3, 2]
    bench.lost = lambda _sender, _to, _message: False
    bench.pass_time(HEARTBEAT)
    assert bench.nodes["c"].log.commit == 3
