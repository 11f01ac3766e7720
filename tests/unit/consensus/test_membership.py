"""Membership changes: thesis, chapter 4; learners, 4.2.1; a leader that leaves, 4.2.2; a hole mended, raft-dev 2015."""

import hashlib
import random
import zlib
from collections.abc import Callable

import msgspec
import pytest

from appliance.consensus import membership
from appliance.consensus.core import Raft
from appliance.consensus.membership import Membership, check_size, encode_membership, membership_of
from appliance.consensus.messages import (
    BATCH_LIMIT,
    ENTRY_LIMIT,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    HardState,
    RequestVote,
    RequestVoteReply,
    batch,
)
from appliance.consensus.ready import Role
from appliance.consensus.snapshot import Kept
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import Monotonic
from appliance.words.settings import Consensus
from tests.unit.consensus.bench import TIMEOUT, Bench, accept, core, entries, leading, led

T0 = Monotonic(0.0)
LONG = hashlib.shake_256(b"a place that nothing makes shorter").hexdigest(2000)
MANY = Membership({f"node{number}": f"10.0.0.{number} 7000 7001" for number in range(100)})
"""More than an entry carries as they are, and less when they are compressed."""


def voters(bench: Bench, name: str) -> set[str]:
    return set(bench.nodes[name].log.membership.voters)


def test_the_first_leader_writes_down_who_the_members_are() -> None:
    bench = led(3)
    assert [entry.kind for entry in bench.applied["c"]] == ["no-op", "members"]
    assert membership_of(bench.applied["c"][1]) == membership.of("abc")
    bench.nodes["a"].transfer(bench.now, "b")
    bench.settle()
    assert [entry.kind for entry in bench.applied["c"]] == ["no-op", "members", "no-op"]


def test_a_node_joins_as_a_learner_and_votes_once_it_has_caught_up() -> None:
    """Thesis, 4.2.1: a new server must not slow the cluster's commits, nor vote before it can."""
    bench = led(3)
    a = bench.nodes["a"]
    for number in range(300):
        a.propose(b"%d" % number + bytes(200), bench.now)
        bench.settle()
    bench.join("d")
    a.add("d", "there", bench.now)
    bench.settle()
    assert set(a.log.membership.learners) == {"d"}
    assert a.log.membership.place("d") == "there"
    bench.pass_time(2 * TIMEOUT)
    assert voters(bench, "d") == voters(bench, "a") == set("abcd")
    assert bench.nodes["d"].log.commit == a.log.commit
    bench.down = {"a"}
    bench.stand("d")
    assert bench.nodes["d"].settled


def test_a_learner_neither_stands_nor_counts() -> None:
    bench = led(3)
    bench.join("d")
    bench.down = {"d"}
    bench.nodes["a"].add("d", "d", bench.now)
    bench.settle()
    assert bench.nodes["a"].propose(b"x", bench.now) is not None
    bench.settle()
    assert bench.applied["b"][-1].data == b"x"
    assert bench.nodes["d"].next_deadline == float("inf")
    bench.nodes["d"].tick(Monotonic(1e9))
    assert bench.nodes["d"].role is Role.FOLLOWER
    bench.down = {"b", "d"}
    assert bench.nodes["a"].propose(b"y", bench.now) is not None
    bench.settle()
    assert bench.applied["c"][-1].data == b"y"


def test_a_node_that_joins_waits_for_a_leader_whatever_happens() -> None:
    bench = led(1)
    bench.join("b")
    bench.pass_time(20 * TIMEOUT)
    assert bench.nodes["b"].role is Role.FOLLOWER
    bench.nodes["a"].add("b", "b", bench.now)
    bench.pass_time(2 * TIMEOUT)
    assert voters(bench, "b") == {"a", "b"}


def test_a_removed_follower_learns_of_it_and_is_quiet() -> None:
    bench = led(3)
    bench.nodes["a"].remove("c", bench.now)
    bench.settle()
    assert voters(bench, "c") == {"a", "b"}
    assert bench.nodes["c"].next_deadline == float("inf")
    bench.sent.clear()
    bench.pass_time(10 * TIMEOUT)
    assert not any("c" in {sender, to} for sender, to, _ in bench.sent)
    assert bench.nodes["a"].settled


def test_a_removed_node_that_missed_it_disturbs_nobody() -> None:
    """Thesis, 4.2.3."""
    bench = led(4)
    bench.down = {"d"}
    bench.nodes["a"].remove("d", bench.now)
    bench.pass_time(TIMEOUT)
    bench.down = set()
    bench.pass_time(20 * TIMEOUT)
    assert any(sender == "d" and isinstance(message, RequestVote) for sender, _, message in bench.sent)
    assert bench.nodes["a"].settled
    assert {bench.nodes[name].term for name in "abc"} == {1}


def test_a_leader_that_is_removed_leads_until_that_is_committed() -> None:
    """Thesis, 4.2.2: it does not count itself meanwhile."""
    bench = led(3)
    a = bench.nodes["a"]
    bench.down = {"c"}
    a.remove("a", bench.now)
    bench.settle()
    assert voters(bench, "b") == {"b", "c"}
    assert a.log.membership_index > a.log.commit, "one of the two that remain is no majority, with the leader or not"
    assert bench.nodes["a"].role is Role.LEADER
    bench.down = set()
    bench.pass_time(TIMEOUT / 2)
    assert bench.changes["a"][-1].role is Role.FOLLOWER
    assert bench.nodes["a"].next_deadline == float("inf")
    bench.pass_time(4 * TIMEOUT)
    assert any(bench.nodes[name].settled for name in "bc")


def test_a_node_whose_removal_is_not_committed_may_still_have_to_lead() -> None:
    """Thesis, 4.2.2: only a holds the entry, so b can't win without a's vote, and a's log is the longer one."""
    bench = led(2)
    bench.down = {"b"}
    bench.nodes["a"].remove("a", bench.now)
    bench.pass_time(2 * TIMEOUT)
    assert bench.nodes["a"].role is not Role.LEADER
    bench.down = set()
    bench.pass_time(8 * TIMEOUT)
    assert voters(bench, "b") == {"b"}
    assert bench.nodes["b"].settled
    assert bench.nodes["a"].role is Role.FOLLOWER


def test_one_change_at_a_time() -> None:
    """Thesis, 4.1: only so do any two majorities share a node."""
    bench = led(3)
    a = bench.nodes["a"]
    a.add("d", "d", bench.now)  # not committed yet: nothing was delivered
    with pytest.raises(OperatorError, match="under way"):
        a.add("e", "e", bench.now)
    bench.settle()
    a.remove("b", bench.now)
    assert set(a.log.membership.names) == {"a", "c", "d"}


def with_learner() -> Raft:
    """Return core a, which has just won term 2; b and c vote, and d does not yet."""
    changed = encode_membership(Membership(membership.of("abc").voters, {"d": "d"}))
    log = [*entries(1), Entry(2, 1, "members", changed)]
    return leading(3, log, HardState(1, None, 2))


def test_no_promotion_before_the_first_entry_of_the_term_is_committed() -> None:
    """As for any other change: "bug in single-server membership changes"."""
    raft = with_learner()
    accept(raft, "d")
    assert set(raft.log.membership.learners) == {"d"}
    accept(raft, "b")
    assert set(raft.log.membership.voters) == set("abcd")


def test_no_promotion_beside_another_change() -> None:
    raft = with_learner()
    accept(raft, "b", "c")
    raft.remove("c", T0)
    accept(raft, "d")
    assert set(raft.log.membership.names) == set("abd")
    assert set(raft.log.membership.learners) == {"d"}
    accept(raft, "b")
    assert set(raft.log.membership.voters) == set("abd")


def test_a_learner_that_is_down_is_not_promoted() -> None:
    """It would count for the majority that it is missing from."""
    raft = with_learner()
    accept(raft, "b", "c")
    raft.remove("c", T0)
    accept(raft, "d")
    for tenth in range(26):
        raft.step("b", AppendEntriesReply(2, True, 3), Monotonic(tenth / 10 * TIMEOUT))
    raft.step("b", AppendEntriesReply(2, True, 4), Monotonic(2.5 * TIMEOUT))
    assert raft.log.commit == 4
    assert set(raft.log.membership.learners) == {"d"}
    raft.step("d", AppendEntriesReply(2, True, 4), Monotonic(2.6 * TIMEOUT))
    assert set(raft.log.membership.voters) == set("abd")


def test_a_snapshot_tells_of_committed_members_only() -> None:
    bench = led(3)
    bench.nodes["a"].add("d", "d", bench.now)
    bench.nodes["a"].compact(b"", keep=0)
    snapshot = bench.nodes["a"].log.snapshot
    assert snapshot is not None
    assert snapshot.membership == membership.of("abc")
    assert bench.nodes["a"].log.membership.names == set("abcd")


def test_no_change_before_the_first_entry_of_the_term_is_committed() -> None:
    """Ongaro, raft-dev, 10 July 2015: "bug in single-server membership changes"."""
    raft = core("a", 4, entries(1), HardState(1, None, 1))
    raft.tick(raft.next_deadline)
    for voter in "bc":
        raft.step(voter, RequestVoteReply(2, True, True), T0)
    for voter in "bc":
        raft.step(voter, RequestVoteReply(2, False, True), T0)
    assert raft.role is Role.LEADER
    with pytest.raises(OperatorError, match="only just began"):
        raft.add("e", "e", T0)
    for follower in "bc":
        raft.step(follower, AppendEntriesReply(2, True, raft.log.last_index), T0)
    raft.add("e", "e", T0)


def test_what_can_not_be_is_refused_in_a_sentence() -> None:
    bench = led(3)
    a, b = bench.nodes["a"], bench.nodes["b"]
    attempts: list[tuple[Callable[[], None], str]] = [
        (lambda: a.add("b", "b", bench.now), "b is a member of the cluster already"),
        (lambda: a.remove("z", bench.now), "z is no member"),
        (lambda: b.add("d", "d", bench.now), "does not lead"),
        (lambda: b.remove("a", bench.now), "does not lead"),
        (
            lambda: a.add("d", LONG, bench.now),
            "bytes, and 1024 are allowed: the cluster is full",
        ),
        (lambda: led(1).nodes["a"].remove("a", T0), "the last node that votes"),
    ]
    for change, sentence in attempts:
        with pytest.raises(OperatorError, match=sentence):
            change()
    a.resign(bench.now)
    with pytest.raises(OperatorError, match="handing over"):
        a.add("d", "d", bench.now)


def test_a_membership_that_is_overwritten_counts_no_more() -> None:
    """Thesis, 4.1: a server falls back to the membership before, if the entry is removed from its log."""
    raft = core("b", 3, entries(1), HardState(1, None, 1))
    changed = encode_membership(membership.of("abcd"))
    raft.step("a", AppendEntries(1, 1, 1, 1, (Entry(2, 1, "members", changed),)), T0)
    assert set(raft.log.membership.voters) == set("abcd")
    assert set(raft.log.settled_membership.voters) == set("abc")
    raft.step("c", AppendEntries(2, 1, 1, 1, (Entry(2, 2, "data", b""),)), T0)
    assert set(raft.log.membership.voters) == set("abc")
    assert raft.ready().members_changed
    assert not raft.ready().members_changed


def test_a_membership_survives_a_restart() -> None:
    kept = [*entries(1), Entry(2, 1, "members", encode_membership(membership.of("ab")))]
    raft = core("a", 5, kept, HardState(1, None, 2))
    assert set(raft.log.membership.voters) == {"a", "b"}


def test_a_membership_that_is_none_is_refused() -> None:
    for bad in (Membership({}), Membership({"a": "a"}, {"a": "a"})):
        with pytest.raises(RemoteError, match="without a voter, or with a node in both"):
            membership_of(Entry(1, 1, "members", encode_membership(bad)))
    with pytest.raises(RemoteError, match="holds none"):
        membership_of(Entry(1, 1, "members", b"\xff"))


def test_a_hundred_members_fit_into_an_entry() -> None:
    assert len(msgspec.msgpack.encode(MANY)) > 2 * ENTRY_LIMIT
    assert len(encode_membership(check_size(MANY))) <= ENTRY_LIMIT
    assert membership_of(Entry(1, 1, "members", encode_membership(MANY))) == MANY
    few = membership.of("abc")
    assert encode_membership(few) == msgspec.msgpack.encode(few, order="deterministic"), "as before there were many"


def test_more_members_than_an_entry_carries_are_refused_in_a_sentence() -> None:
    for places in (LONG[:300], "a" * 300):
        too_many = Membership({f"node{number}": f"{number}{places}"[:300] for number in range(250)})
        with pytest.raises(OperatorError, match=r"of 250 members would take .* the cluster is full"):
            check_size(too_many)


@pytest.mark.parametrize(
    "data",
    [
        zlib.compress(bytes(2**24), level=9),
        zlib.compress(msgspec.msgpack.encode(MANY)) + b"x",
        zlib.compress(msgspec.msgpack.encode(MANY))[:-1],
        zlib.compress(b"no membership"),
        zlib.compress(zlib.compress(msgspec.msgpack.encode(MANY))),
        b"x",
    ],
)
def test_a_compressed_entry_that_holds_none_is_refused_whatever_it_unpacks_to(data: bytes) -> None:
    with pytest.raises(RemoteError, match="an entry of kind members that holds none"):
        membership_of(Entry(1, 1, "members", data))


def test_an_entry_that_no_message_carries_is_a_mistake_and_no_endless_loop() -> None:
    small, large = Entry(1, 1, "data", b"small"), Entry(2, 1, "data", bytes(BATCH_LIMIT))
    assert batch([small, large]) == (small,)
    with pytest.raises(ValueError, match="a message carries 1140"):
        batch([large, small])


def test_a_leader_of_a_hundred_tells_them_all_who_they_are() -> None:
    raft = Raft(
        node="node0",
        bootstrap=MANY,
        settings=Consensus(),
        hard_state=HardState(0, None, 0),
        kept=Kept([]),
        random=random.Random(0),
        now=T0,
    )
    others = sorted(MANY.voters.keys() - {"node0"})
    raft.tick(raft.next_deadline)
    for pre in (True, False):
        for voter in others[:50]:
            raft.step(voter, RequestVoteReply(1, pre, True), T0)
    raft.ready()
    for follower in others:
        raft.step(follower, AppendEntriesReply(1, True, 1), T0)
    told = {
        name: membership_of(entry)
        for name, message in raft.ready().messages
        if isinstance(message, AppendEntries)
        for entry in message.entries
        if entry.kind == "members"
    }
    assert told == dict.fromkeys(others, MANY)
    accept(raft, *others[:50])
    assert raft.log.commit == raft.log.last_index == 2
