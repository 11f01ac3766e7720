"""Log compaction: paper, 7 (figure 13); thesis, 5."""

import msgspec
import pytest

from appliance.consensus import membership
from appliance.consensus.membership import Membership
from appliance.consensus.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entry,
    HardState,
    Request,
    SnapshotOffer,
    decode,
    encode,
)
from appliance.consensus.ready import Fetch
from appliance.consensus.snapshot import Kept, Snapshot, decode_snapshot, encode_snapshot
from appliance.words.errors import RemoteError
from appliance.words.ids import Monotonic
from tests.unit.consensus.bench import TIMEOUT, Bench, core, entries, led

T0 = Monotonic(0.0)


def snapshot(index: int, term: int, state: bytes = b"state") -> Snapshot:
    return Snapshot(index, term, membership.of("abc"), {"a": 1}, "a", {}, state)


def fill(bench: Bench, count: int) -> None:
    for number in range(count):
        assert bench.nodes["a"].propose(b"%d" % number, bench.now) is not None
        bench.settle()


def test_a_compaction_keeps_what_the_entries_amount_to() -> None:
    bench = led(3)
    fill(bench, 20)
    a = bench.nodes["a"]
    a.compact(b"twenty", keep=5)
    ready = a.ready()
    assert ready.compaction is not None
    assert ready.compaction.snapshot == Snapshot(22, 1, membership.of("abc"), {"a": 1}, "a", {}, b"twenty")
    assert (ready.compaction.start, ready.compaction.start_term) == (17, 1)
    assert [entry.index for entry in ready.compaction.entries] == [18, 19, 20, 21, 22]
    assert (ready.truncate_from, ready.entries) == (None, ())
    assert a.log.term_at(16) is None
    fill(bench, 1)
    assert bench.applied["b"][-1].index == 23


def test_only_what_is_applied_can_be_compacted() -> None:
    bench = led(1)
    bench.nodes["a"].propose(b"x", bench.now)
    with pytest.raises(ValueError, match="all of them applied"):
        bench.nodes["a"].compact(b"", keep=0)
    with pytest.raises(ValueError, match="committed entries"):
        core("a", 3).compact(b"", keep=0)


def test_a_follower_that_lags_a_little_needs_no_snapshot() -> None:
    bench = led(3)
    bench.down = {"c"}
    fill(bench, 5)
    bench.nodes["a"].compact(b"five", keep=10)
    bench.down = set()
    bench.pass_time(TIMEOUT)
    assert bench.nodes["c"].log.commit == bench.nodes["a"].log.commit
    assert bench.restored == []


def test_a_follower_that_lacks_what_is_left_out_gets_the_snapshot() -> None:
    bench = led(3)
    bench.down = {"c"}
    fill(bench, 30)
    bench.nodes["a"].compact(b"thirty", keep=4)
    fill(bench, 2)
    bench.down = set()
    bench.pass_time(2 * TIMEOUT)
    assert [(name, taken.index, taken.state) for name, taken in bench.restored] == [("c", 32, b"thirty")]
    assert [entry.index for entry in bench.applied["c"]] == [1, 2, 33, 34]
    assert bench.nodes["c"].log.ledger.turns == {"a": 1}


def test_offers_go_out_with_heartbeats_and_no_faster() -> None:
    """While the snapshot is on its way the follower counts as live, and is not flooded."""
    bench = led(3)
    bench.down = {"c"}
    fill(bench, 30)
    a = bench.nodes["a"]
    a.compact(b"thirty", keep=0)
    a.ready()
    beats, offers = 0, 0
    for _ in range(30):
        bench.now = Monotonic(a.next_deadline)
        a.tick(bench.now)
        beats += 1
        for to, message in a.ready().messages:
            if to == "b":
                a.step("b", AppendEntriesReply(1, True, a.log.last_index, beat=getattr(message, "beat", 0)), bench.now)
            elif isinstance(message, SnapshotOffer):
                offers += 1
                a.step("c", AppendEntriesReply(1, True, 2, beat=message.beat), bench.now)
    assert a.transfer(bench.now, "c"), "it counts as live"
    assert beats - 3 <= offers <= beats


def test_an_offer_asks_for_a_snapshot_until_there_is_one() -> None:
    raft = core("c", 3, entries(1), HardState(1, None, 1))
    for _ in range(2):
        raft.step("a", SnapshotOffer(2, 10, 1), T0)
        ready = raft.ready()
        assert ready.fetch == Fetch("a", 10)
        assert [m for _, m in ready.messages] == [AppendEntriesReply(2, True, 1, beat=1)]
    raft.install("a", snapshot(12, 2), T0)
    ready = raft.ready()
    assert ready.compaction is not None
    assert ready.restored is not None
    assert (ready.compaction.start, ready.compaction.entries, ready.restored.state) == (12, (), b"state")
    assert ready.hard_state == HardState(2, None, 12)
    assert [m for _, m in ready.messages] == [AppendEntriesReply(2, True, 12)]
    raft.step("a", SnapshotOffer(2, 10, 2), T0)
    assert raft.ready().fetch is None


def test_a_snapshot_that_the_log_covers_keeps_the_entries_behind_it() -> None:
    """Figure 13, rule 6."""
    raft = core("c", 3, entries(1, 1, 1, 1), HardState(1, None, 1))
    raft.step("a", AppendEntries(1, 4, 1, 1, ()), T0)
    raft.install("a", snapshot(3, 1), T0)
    assert raft.log.last_index == 4
    ready = raft.ready()
    assert ready.compaction is not None
    assert [entry.index for entry in ready.compaction.entries] == [4]
    assert ready.messages[-1] == ("a", AppendEntriesReply(1, True, 3)), "whether the rest agrees is not known"


def test_an_offer_is_answered_with_what_is_committed_only() -> None:
    """The rest of the log may be a tail that this leader does not have."""
    raft = core("c", 3, entries(1, 1, 1), HardState(1, None, 2))
    raft.step("a", SnapshotOffer(2, 10, 7), T0)
    assert raft.ready().messages == (("a", AppendEntriesReply(2, True, 2, beat=7)),)


def test_a_snapshot_that_contradicts_the_log_replaces_all_of_it() -> None:
    """Figure 13, rule 7."""
    raft = core("c", 3, entries(1, 2, 2, 2), HardState(2, None, 1))
    raft.step("a", SnapshotOffer(3, 3, 0), T0)
    raft.install("a", snapshot(3, 3), T0)
    assert (raft.log.last_index, raft.log.last_term, raft.log.commit) == (3, 3, 3)


def test_a_snapshot_from_elsewhere_or_of_old_is_ignored() -> None:
    raft = core("c", 3, entries(1, 1, 1), HardState(1, None, 3))
    raft.step("a", AppendEntries(1, 3, 1, 3, ()), T0)
    raft.ready()
    raft.install("b", snapshot(9, 1), T0)
    raft.install("a", snapshot(9, 5), T0)
    raft.install("a", snapshot(2, 1), T0)
    assert raft.ready().compaction is None
    assert raft.log.commit == 3


def test_an_append_that_begins_before_the_log_does_is_taken() -> None:
    kept = Kept(entries(1, 1, 1, 1)[2:], 2, 1, snapshot(3, 1))
    bench = led(1)
    raft = type(bench.nodes["a"])(
        node="c",
        bootstrap=membership.of("abc"),
        settings=bench.nodes["a"]._settings,
        hard_state=HardState(1, None, 3),
        kept=kept,
        random=bench.nodes["a"]._random,
        now=T0,
    )
    raft.step("a", AppendEntries(1, 0, 0, 3, tuple(entries(1, 1, 1, 1, 1))), T0)
    ready = raft.ready()
    assert [entry.index for entry in ready.entries] == [5]
    assert ready.restored is not None
    assert [m for _, m in ready.messages] == [AppendEntriesReply(1, True, 5)]
    raft.step("a", AppendEntries(1, 0, 0, 3, tuple(entries(1))), T0)
    assert [m for _, m in raft.ready().messages] == [AppendEntriesReply(1, True, 1)]


@pytest.mark.parametrize(
    ("kept", "start", "left"),
    [
        (Kept(entries(1, 1), 0, 0, None), 0, 2),
        (Kept(entries(1, 1, 1), 0, 0, snapshot(2, 1)), 0, 3),  # crashed between snapshot and log: the log covers it
        (Kept(entries(1, 1), 0, 0, snapshot(5, 1)), 5, 0),  # the log ends before it
        (Kept(entries(1, 2, 2), 0, 0, snapshot(3, 3)), 3, 0),  # the log contradicts it
        (Kept(entries(1, 1, 1)[2:], 2, 1, snapshot(2, 1)), 2, 1),
    ],
)
def test_a_crash_between_snapshot_and_log_is_put_right(kept: Kept, start: int, left: int) -> None:
    again = kept.reconciled()
    assert (again.start, len(again.entries)) == (start, left)


def test_snapshots_come_back_as_they_were_and_rubbish_is_refused() -> None:
    whole = encode_snapshot(Snapshot(9, 2, membership.of("ab"), {"a": 3}, None, {"client": (4, 8)}, b"\x00" * 50))
    assert encode_snapshot(decode_snapshot(whole)) == whole
    for cut in range(len(whole)):
        with pytest.raises(RemoteError):
            decode_snapshot(whole[:cut])


@pytest.mark.parametrize("bad", [Membership({}), Membership({}, {"a": "a"}), Membership({"a": "a"}, {"a": "a"})])
def test_a_snapshot_of_a_membership_that_cannot_be_is_refused(bad: Membership) -> None:
    with pytest.raises(RemoteError, match="without a voter, or with a node in both parts"):
        decode_snapshot(encode_snapshot(Snapshot(1, 1, bad, {}, None, {}, b"")))


@pytest.mark.parametrize("words", ["\nleader is mallory", "x" * 1000])
def test_the_reason_of_a_refusal_quotes_nothing_that_a_peer_wrote(words: str) -> None:
    """It would be written into the log; and as a reason of its own each time, as often as the peer likes."""
    for content in ([words], {words: 1}, words, ["vote", words], ["append", 1, 0, 0, 0, [[1, 1, words, b""]]]):
        with pytest.raises(RemoteError) as refused:
            decode(msgspec.msgpack.encode(content))
        assert refused.value.reason == "not a message of consensus"
        with pytest.raises(RemoteError) as refused:
            decode_snapshot(msgspec.msgpack.encode(content))
        assert refused.value.reason == "not a snapshot of consensus"
    for index in (7, 2**61):
        with pytest.raises(RemoteError) as refused:
            decode(encode(AppendEntries(2, index - 1, 1, 1, tuple(entries(1)))))
        assert refused.value.reason == "entries that don't follow one another"


def test_requests_and_turns_survive_in_a_snapshot() -> None:
    bench = led(3)
    a = bench.nodes["a"]
    a.propose(b"once", bench.now, Request("client", 7))
    bench.settle()
    a.compact(b"", keep=0)
    kept = a.ready().compaction
    assert kept is not None
    again = core("a", 3)
    again._log.install(kept.snapshot)
    assert again.log.ledger.done_at(Request("client", 7)) == 3
    assert again.log.ledger.last_leader == "a"


def test_entries_that_a_snapshot_covers_are_never_applied_again() -> None:
    bench = led(3)
    fill(bench, 6)
    a = bench.nodes["a"]
    a.compact(b"six", keep=3)
    compaction = a.ready().compaction
    assert compaction is not None
    raft = core("a", 3)
    kept = Kept(compaction.entries, compaction.start, compaction.start_term, compaction.snapshot)
    raft = type(raft)(
        node="a",
        bootstrap=membership.of("abc"),
        settings=raft._settings,
        hard_state=HardState(1, "a", 8),
        kept=kept,
        random=raft._random,
        now=T0,
    )
    ready = raft.ready()
    assert ready.restored is not None
    assert (ready.restored.state, ready.committed) == (b"six", ())
    assert isinstance(compaction.entries[0], Entry)
