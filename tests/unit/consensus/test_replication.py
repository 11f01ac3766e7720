"""The log: paper 5.3, figures 7 and 8, 5.4.2; what a Ready holds."""

import contextlib

import pytest

from appliance.consensus.messages import (
    ENTRY_LIMIT,
    MESSAGE_LIMIT,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    HardState,
    Ping,
    Request,
    RequestVoteReply,
    batch,
    decode,
    encode,
)
from appliance.consensus.ready import Role
from appliance.words.errors import RemoteError
from appliance.words.ids import Monotonic
from tests.unit.consensus.bench import TIMEOUT, Bench, core, entries, led

T0 = Monotonic(0.0)


def test_a_proposal_is_committed_on_all() -> None:
    bench = Bench(3)
    bench.stand("a")
    assert bench.nodes["a"].propose(b"x", bench.now) == (3, 1)
    assert bench.nodes["b"].propose(b"y", bench.now) is None
    bench.settle()
    assert [[entry.kind for entry in log] for log in bench.applied.values()] == [["no-op", "members", "data"]] * 3
    assert [log[-1].data for log in bench.applied.values()] == [b"x"] * 3
    with pytest.raises(ValueError, match="1024"):
        bench.nodes["a"].propose(bytes(ENTRY_LIMIT + 1), bench.now)


FIGURE_7 = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


def test_figure_7_all_followers_come_to_the_leaders_log() -> None:
    leader = entries(1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    bench = Bench(
        7,
        {"a": leader}
        | {name.translate(str.maketrans("abcdef", "bcdefg")): entries(*terms) for name, terms in FIGURE_7.items()},
    )
    a = bench.nodes["a"]
    for _ in range(3):
        if a.role is not Role.LEADER:
            bench.stand("a")
    bench.pass_time(TIMEOUT)
    assert a.role is Role.LEADER
    assert {raft.log.last_index for raft in bench.nodes.values()} == {12}
    assert all(log == bench.applied["a"] for log in bench.applied.values())
    # Fast back-off (end of 5.3): a refusal skips a term, not an entry.
    refusals = [m for _, to, m in bench.sent if to == "a" and isinstance(m, AppendEntriesReply) and not m.accepted]
    assert len([r for r in refusals if r.term == a.term]) <= 12


def test_figure_8_an_old_entry_is_not_committed_by_count() -> None:
    """Figure 8 (c): the entry of term 2 is on a majority, and could still be overwritten by one of term 3."""
    raft = core("a", 5, entries(1, 2), HardState(3, None, 0))
    raft.tick(raft.next_deadline)
    for voter in "bc":
        raft.step(voter, RequestVoteReply(4, True, True), T0)
    for voter in "bc":
        raft.step(voter, RequestVoteReply(4, False, True), T0)
    assert raft.role is Role.LEADER
    for follower in "bcd":
        raft.step(follower, AppendEntriesReply(4, True, 2), T0)
        raft.step(follower, AppendEntriesReply(3, True, 3), T0)  # an answer to a former term says nothing of this one
    assert raft.log.commit == 0
    assert not raft.settled
    for follower in "bc":  # (e): with an entry of its own term on a majority, all before it is committed
        raft.step(follower, AppendEntriesReply(4, True, 3), T0)
    assert raft.log.commit == 3
    assert raft.settled


def test_a_late_heartbeat_removes_nothing() -> None:
    """Figure 2, AppendEntries receiver, rule 3: only an entry that conflicts is deleted."""
    raft = core("b", 3)
    raft.step("a", AppendEntries(1, 0, 0, 0, tuple(entries(1, 1, 1))), T0)
    raft.ready()
    raft.step("a", AppendEntries(1, 0, 0, 0, tuple(entries(1))), T0)
    raft.step("a", AppendEntries(1, 1, 1, 0, ()), T0)
    assert raft.log.last_index == 3
    assert raft.ready().truncate_from is None


def test_a_conflict_truncates_and_the_commit_stays_within_what_agreed() -> None:
    raft = core("b", 3, entries(1, 1, 1, 1), HardState(1, None, 1))
    raft.step("a", AppendEntries(2, 1, 1, 9, (Entry(2, 2, "data", b""),)), T0)
    ready = raft.ready()
    assert (ready.truncate_from, [e.term for e in ready.entries], raft.log.commit) == (2, [2], 2)
    assert ready.hard_state == HardState(2, None, 2)
    assert [entry.index for entry in ready.committed] == [1, 2]


def test_a_commit_alone_is_not_written() -> None:
    raft = core("b", 3)
    raft.step("a", AppendEntries(1, 0, 0, 0, tuple(entries(1))), T0)
    assert raft.ready().must_save
    raft.step("a", AppendEntries(1, 1, 1, 1, ()), T0)
    ready = raft.ready()
    assert not ready.must_save
    assert len(ready.committed) == 1


def test_lost_entries_are_sent_again() -> None:
    bench = Bench(3)
    bench.stand("a")
    bench.down = {"c"}
    for number in range(200):
        bench.nodes["a"].propose(b"%d" % number + bytes(900), bench.now)
        bench.settle()
    bench.pass_time(TIMEOUT / 2)
    bench.down = set()
    bench.pass_time(TIMEOUT / 2)
    assert bench.nodes["c"].log.commit == 202
    assert max(len(encode(message)) for _, _, message in bench.sent) <= MESSAGE_LIMIT


def test_keep_alives_tell_only_what_was_acknowledged() -> None:
    """Sent while the leader's own write is under way, so that a slow disk costs no election."""
    bench = Bench(3)
    bench.stand("a")
    assert bench.nodes["b"].keep_alive() == []
    bench.nodes["a"].propose(b"not durable yet", bench.now)
    bench.now = Monotonic(bench.now + TIMEOUT * 0.9)
    for to, message in bench.nodes["a"].keep_alive():
        assert message == AppendEntries(1, 2, 1, 2, ())
        bench.nodes[to].step("a", message, bench.now)
        assert bench.nodes[to].next_deadline >= bench.now + TIMEOUT
        assert bench.nodes[to].log.last_index == 2


def test_answers_about_entries_never_sent_are_refused() -> None:
    bench = Bench(3)
    bench.stand("a")
    with pytest.raises(RemoteError, match="never sent"):
        bench.nodes["a"].step("b", AppendEntriesReply(1, True, 99), bench.now)


def test_batches_take_at_least_one_entry() -> None:
    request = Request("c" * 63, 2**61)
    large = [Entry(i, 2**61, "data", bytes(ENTRY_LIMIT), request) for i in (2**61, 2**61 + 1)]
    assert len(batch(large)) == 1
    assert len(batch(entries(*[1] * 500))) > 50
    message = AppendEntries(2**61, 2**61 - 1, 2**61, 2**61, batch(large), 2**61)
    assert len(encode(message)) <= MESSAGE_LIMIT
    assert decode(encode(message)) == message
    assert decode(encode(Ping())) == Ping()


@pytest.mark.parametrize("cut", range(40))
def test_garbage_is_refused_and_raises_nothing_else(cut: int) -> None:
    whole = encode(AppendEntries(3, 1, 1, 0, (Entry(2, 3, "data", b"payload"),)))
    if cut < len(whole):
        with pytest.raises(RemoteError):
            decode(whole[:cut])
    flipped = bytearray(whole)
    flipped[cut % len(whole)] ^= 0xFF
    with contextlib.suppress(RemoteError):
        decode(bytes(flipped))


def test_keep_alives_tell_no_commit_that_hangs_on_what_is_not_durable() -> None:
    """Found by seed 6209: counted by members that the leader was about to write, and told before they were durable."""
    bench = led(4)
    a = bench.nodes["a"]
    a.propose(b"x", bench.now)
    for to, message in a.ready().messages:
        bench.nodes[to].step("a", message, bench.now)
    told = a.log.commit
    a.remove("d", bench.now)  # two of the three that remain are enough now, and b has answered
    a.step("b", AppendEntriesReply(1, True, 3), bench.now)
    assert a.log.commit == told + 1
    ready = a.ready()  # under way to the disk from here on
    assert any(entry.kind == "members" for entry in ready.entries)
    assert {message.commit for _, message in a.keep_alive() if isinstance(message, AppendEntries)} == {told}
