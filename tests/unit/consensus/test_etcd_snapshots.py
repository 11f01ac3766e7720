"""Snapshots, after the lists of etcd's ``raft_test.go``, ``raft_snap_test.go`` and ``testdata``.

Elsewhere (``test_snapshots``): ``TestRestoreIgnoreSnapshot``, ``TestRestoreFromSnapMsg``, ``TestProvideSnap``,
``TestSlowNodeRestore``, ``TestSendAppendForProgressSnapshot``.

No meaning here:

- ``TestRestoreWithVotersOutgoing``: no joint consensus.
- ``TestIgnoreProvidingSnap``: an offer is a heartbeat, so the silent get it too.
- ``TestSnapshotFailure``, ``TestSnapshotAbort``: nobody reports; an offer is repeated with each heartbeat.
"""

import pytest

from appliance.consensus import membership
from appliance.consensus.core import Raft
from appliance.consensus.membership import Membership, encode_membership
from appliance.consensus.messages import AppendEntries, AppendEntriesReply, Entry, HardState, SnapshotOffer
from appliance.consensus.snapshot import Snapshot
from appliance.words.ids import Monotonic, NodeName
from tests.unit.consensus.bench import HEARTBEAT, T0, TIMEOUT, core, led


def restored(node: NodeName, before: Membership, after: Membership) -> Raft:
    """Return a core that its leader brought to a snapshot's state."""
    log = [Entry(1, 1, "members", encode_membership(before))]
    raft = core(node, 0, log, HardState(1, None, 1))
    raft.ready()
    raft.step("a", SnapshotOffer(11, 11, 0), T0)
    raft.install("a", Snapshot(11, 11, after, {}, None, {}, b"state"), T0)
    return raft


def test_restore() -> None:
    """etcd ``TestRestore``: index, term and members are the snapshot's; the same again is no news."""
    raft = restored("b", membership.of("ab"), membership.of("abc"))
    assert (raft.log.last_index, raft.log.last_term, raft.log.commit) == (11, 11, 11)
    assert raft.log.membership == raft.log.settled_membership == membership.of("abc")
    assert raft.ready().restored is not None
    raft.install("a", Snapshot(11, 11, membership.of("ab"), {}, None, {}, b"again"), T0)
    assert (raft.ready().restored, raft.log.membership) == (None, membership.of("abc"))


@pytest.mark.parametrize(
    ("before", "after", "may_stand"),
    [
        (Membership({"a": ""}, {"b": ""}), Membership({"a": ""}, {"b": ""}), False),
        (membership.of("ab"), Membership({"a": ""}, {"b": ""}), False),
        (Membership({"a": ""}, {"b": ""}), membership.of("ab"), True),
        (membership.of("abc"), membership.of("ac"), False),
    ],
    ids=["learner", "voter to learner", "promotion", "removal"],
)
def test_restore_with_learner(before: Membership, after: Membership, may_stand: bool) -> None:
    """etcd ``TestRestoreWithLearner``, ``TestRestoreVoterToLearner``, ``TestRestoreLearnerPromotion``."""
    raft = restored("b", before, after)
    assert raft.log.membership == after
    assert (raft.next_deadline < float("inf")) == may_stand
    raft.tick(Monotonic(99.0))
    assert (raft.role.value == "candidate") == may_stand


def test_learner_receives_log_and_snapshot() -> None:
    """etcd ``TestLearnerLogReplication``, ``TestLearnerReceiveSnapshot``."""
    bench = led(1)
    bench.propose("a", *[b"%d" % number for number in range(20)])
    bench.nodes["a"].compact(b"twenty", keep=0)
    bench.settle()
    bench.join("b")
    bench.lost = lambda sender, _to, message: (
        sender == "b" and isinstance(message, AppendEntriesReply) and message.accepted and message.index > 22
    )
    bench.nodes["a"].add("b", "b", bench.now)
    bench.pass_time(TIMEOUT)
    bench.propose("a", b"x")
    bench.pass_time(HEARTBEAT)
    a, b = bench.nodes["a"], bench.nodes["b"]
    assert [taken.state for _, taken in bench.restored] == [b"twenty"]
    assert set(a.log.membership.learners) == {"b"}, "its acknowledgements were lost"
    assert bench.data("b") == [b"x"]
    assert b.log.commit == a.log.commit == 24


def test_pending_snapshot_pauses_replication() -> None:
    """etcd ``TestPendingSnapshotPauseReplication``, ``TestSendingSnapshotSetPendingSnapshot``, ``TestSnapshotSucceed``,
    ``snapshot_succeed_via_app_resp.txt``, ``slow_follower_after_compaction.txt``.
    """
    bench = led(3)
    bench.down = {"c"}
    bench.propose("a", *[b"%d" % number for number in range(20)])
    a = bench.nodes["a"]
    a.compact(b"twenty", keep=0)
    bench.settle()
    bench.pass_time(3 * HEARTBEAT)
    a.propose(b"x", bench.now)
    messages = [m for to, m in a.ready().messages if to == "c"]
    assert not any(isinstance(message, AppendEntries) and message.entries for message in messages)
    bench.down = set()
    bench.pass_time(2 * TIMEOUT)
    assert [taken.state for name, taken in bench.restored if name == "c"] == [b"twenty"]
    bench.propose("a", b"y")
    assert bench.data("c")[-2:] == [b"x", b"y"], "at once, without a further heartbeat"


def test_snapshot_succeeds_though_it_is_behind_the_log() -> None:
    """etcd ``snapshot_succeed_via_app_resp_behind.txt``: an older one that the log goes on from is enough."""
    bench = led(3)
    bench.down = {"c"}
    bench.propose("a", *[b"%d" % number for number in range(10)])
    a = bench.nodes["a"]
    a.compact(b"ten", keep=0)
    taken = a.log.snapshot
    bench.settle()
    bench.propose("a", b"x")
    assert taken is not None
    c = bench.nodes["c"]
    bench.down = set()
    c.step("a", SnapshotOffer(1, 12, 0), bench.now)
    c.install("a", taken, bench.now)
    bench.pass_time(2 * HEARTBEAT)
    assert bench.data("c") == [b"x"]
