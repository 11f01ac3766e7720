"""Elections: paper 5.2 and 5.4.1; PreVote, thesis 9.6; CheckQuorum, thesis 6.2; the lease, thesis 4.2.3."""

import pytest

from appliance.consensus.candidacy import FAVOUR, UNDISTURBED
from appliance.consensus.core import Raft
from appliance.consensus.messages import AppendEntries, Entry, HardState, RequestVote, RequestVoteReply
from appliance.consensus.quorum import Outcome, Tally, majority, reached_by_majority
from appliance.consensus.ready import Role
from appliance.words.errors import RemoteError
from appliance.words.ids import Monotonic
from appliance.words.settings import Consensus
from tests.unit.consensus.bench import T0, TIMEOUT, Bench, candidate, core, entries


def replies(raft: Raft) -> list[RequestVoteReply]:
    return [message for _, message in raft.ready().messages if isinstance(message, RequestVoteReply)]


@pytest.mark.parametrize(("members", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_majority_is_more_than_half(members: int, needed: int) -> None:
    assert majority(members) == needed
    assert reached_by_majority(list(range(members))) == members - needed


def test_a_tally_counts_senders_not_messages() -> None:
    tally = Tally("abcde")
    outcomes = []
    for voter, granted in [("b", True), ("b", True), ("b", True), ("b", False), ("c", True), ("d", True)]:
        tally.record(voter, granted)
        outcomes.append(tally.outcome)
    assert outcomes == [Outcome.PENDING] * 5 + [Outcome.WON]


def test_a_lone_node_leads_at_once() -> None:
    raft = core("a", 1)
    raft.tick(T0)
    ready = raft.ready()
    assert (raft.role, raft.term, raft.settled) == (Role.LEADER, 1, True)
    assert ready.hard_state == HardState(1, "a", 2)
    assert [entry.kind for entry in ready.committed] == ["no-op", "members"]
    assert not raft.resign(T0)
    assert not raft.transfer(T0)


def test_a_duplicated_vote_does_not_elect() -> None:
    """Section 5.2: votes from a majority of the servers."""
    raft = candidate(5)
    roles = []
    for voter in "bbbbc":
        raft.step(voter, RequestVoteReply(1, False, True), T0)
        roles.append(raft.role)
    assert roles == [Role.CANDIDATE] * 4 + [Role.LEADER]


def test_two_of_four_are_no_majority() -> None:
    raft = candidate(4)
    raft.step("b", RequestVoteReply(1, False, True), T0)
    assert raft.role is Role.CANDIDATE


def test_one_vote_a_term_kept_over_a_restart() -> None:
    """Figure 2, RequestVote receiver, rule 2."""
    raft = core("a", 3)
    raft.step("b", RequestVote(1, 0, 0, False, False), T0)
    ready = raft.ready()
    assert ready.hard_state == HardState(1, "b", 0)
    assert ready.messages == (("b", RequestVoteReply(1, False, True)),)
    again = core("a", 3, state=ready.hard_state)
    again.step("c", RequestVote(1, 0, 0, False, False), T0)
    again.step("b", RequestVote(1, 0, 0, False, False), T0)
    assert [reply.granted for reply in replies(again)] == [False, True]


@pytest.mark.parametrize(
    ("last_index", "last_term", "granted"), [(3, 2, True), (4, 2, True), (1, 3, True), (2, 2, False), (9, 1, False)]
)
def test_only_an_up_to_date_log_gets_a_vote(last_index: int, last_term: int, granted: bool) -> None:
    """Section 5.4.1: the later last term wins; of equal ones the longer log."""
    for pre_vote in (True, False):
        raft = core("a", 3, entries(1, 1, 2))
        raft.step("b", RequestVote(5, last_index, last_term, pre_vote, False), T0)
        assert [reply.granted for reply in replies(raft)] == [granted]


def test_pre_votes_raise_no_term_and_bind_nobody() -> None:
    """Thesis, 9.6."""
    raft = core("a", 3)
    raft.step("b", RequestVote(7, 0, 0, True, False), T0)
    raft.step("b", RequestVote(7, 0, 0, True, False), T0)
    ready = raft.ready()
    assert ready.hard_state is None
    assert [message for _, message in ready.messages] == [RequestVoteReply(7, True, True)] * 2
    raft.step("c", RequestVote(7, 0, 0, False, False), T0)
    assert replies(raft) == [RequestVoteReply(7, False, True)]


def test_trials_are_granted_to_one_at_a_time() -> None:
    """Two that win their trials at once split the votes, and nobody leads for another timeout."""
    raft = core("a", 5)
    for sender, seconds, granted in [
        ("c", 0.0, True),
        ("d", UNDISTURBED * TIMEOUT, False),
        ("c", 0.2, True),
        ("d", FAVOUR * TIMEOUT, True),
        ("c", FAVOUR * TIMEOUT, False),
    ]:
        raft.step(sender, RequestVote(1, 0, 0, True, False), Monotonic(seconds))
        assert [reply.granted for reply in replies(raft)] == [granted]


def test_a_favourite_that_did_not_win_in_its_time_gives_way_to_a_better_one() -> None:
    """Of many who try at once each would be favoured by a few, and none be elected."""
    raft = core("a", 5)
    for sender, seconds, granted in [
        ("d", 0.0, True),
        ("b", 0.9 * UNDISTURBED * TIMEOUT, False),
        ("b", UNDISTURBED * TIMEOUT, True),
        ("d", 2 * UNDISTURBED * TIMEOUT, False),
        ("c", 2 * UNDISTURBED * TIMEOUT, False),
    ]:
        raft.step(sender, RequestVote(1, 0, 0, True, False), Monotonic(seconds))
        assert [reply.granted for reply in replies(raft)] == [granted]


@pytest.mark.parametrize(("sender", "gives_way"), [("a", True), ("c", False)])
def test_of_two_that_try_at_once_one_gives_way(sender: str, gives_way: bool) -> None:
    """To who has led less; of equals to the first by name. So it is never both, nor neither."""
    raft = core("b", 5)
    raft.tick(raft.next_deadline)
    raft.ready()
    raft.step(sender, RequestVote(1, 0, 0, True, False), T0)
    assert [reply.granted for reply in replies(raft)] == [gives_way]


def test_a_trial_that_is_lost_stands_in_nobodys_way() -> None:
    """One whose log lags tries more often than the only one that can win, which led last; found by the simulator."""
    raft = core("a", 2, entries(1))
    raft.tick(raft.next_deadline)
    raft.step("b", RequestVoteReply(1, True, False), T0)
    raft.ready()
    raft.step("b", RequestVote(2, 2, 1, True, False), T0)
    assert [reply.granted for reply in replies(raft)] == [True]


def test_who_has_not_given_its_vote_is_asked_again_at_growing_intervals() -> None:
    """Datagrams get lost; and who refused a trial because it heard the leader may hear it no more."""
    raft = core("a", 5)
    raft.tick(raft.next_deadline)
    again = raft.next_deadline
    assert len(raft.ready().messages) == 4
    raft.step("b", RequestVoteReply(0, True, False), T0)
    raft.step("c", RequestVoteReply(1, True, True), T0)
    raft.tick(again)
    assert [to for to, _ in raft.ready().messages] == ["b", "d", "e"]
    assert raft.next_deadline - again == pytest.approx(2 * Consensus().heartbeat_interval_s)
    raft.step("b", RequestVoteReply(1, True, True), T0)
    assert raft.term == 1, "the trial is won"


def test_a_cut_off_node_disturbs_nobody_when_it_comes_back() -> None:
    """Thesis, 9.6 and 4.2.3."""
    bench = Bench(3)
    bench.stand("a")
    bench.down = {"c"}
    bench.pass_time(20 * TIMEOUT)
    bench.down = set()
    bench.pass_time(4 * TIMEOUT)
    assert {raft.term for raft in bench.nodes.values()} == {1}
    assert {raft.leader for raft in bench.nodes.values()} == {"a"}


def test_a_later_term_does_not_depose_a_leader_that_is_heard() -> None:
    bench = Bench(3)
    bench.stand("a")
    bench.nodes["b"].step("c", RequestVote(9, 5, 5, False, False), bench.now)
    assert bench.nodes["b"].term == 1
    bench.nodes["b"].step("c", RequestVote(9, 5, 5, False, True), bench.now)
    assert bench.nodes["b"].term == 9


def test_a_leader_without_its_majority_steps_down_within_a_timeout() -> None:
    """CheckQuorum: thesis, 6.2."""
    bench = Bench(5)
    bench.stand("a")
    bench.pass_time(1.0)
    bench.down = {"c", "d", "e"}
    bench.pass_time(TIMEOUT + 0.01)
    assert bench.nodes["a"].role is not Role.LEADER
    assert bench.nodes["a"].propose(b"x", bench.now) is None


def test_a_leader_keeps_leading_with_a_bare_majority() -> None:
    bench = Bench(5)
    bench.stand("a")
    bench.down = {"d", "e"}
    bench.pass_time(10 * TIMEOUT)
    assert bench.nodes["a"].role is Role.LEADER
    assert bench.nodes["a"].propose(b"x", bench.now) is not None


def test_the_node_that_led_last_waits_longer() -> None:
    bench = Bench(3)
    bench.stand("a")
    a = bench.nodes["a"]
    a.step("b", AppendEntries(2, 1, 1, 1, ()), bench.now)
    assert a.next_deadline >= bench.now + 1.5 * TIMEOUT


def test_roles_are_told_as_they_change() -> None:
    """Figure 4."""
    bench = Bench(3)
    bench.stand("a")
    assert [change.role for change in bench.changes["a"]] == [Role.CANDIDATE, Role.CANDIDATE, Role.LEADER]
    assert bench.changes["b"][-1].leader == "a"


def test_what_no_member_sends_is_refused() -> None:
    bench = Bench(3)
    bench.stand("a")
    b = bench.nodes["b"]
    with pytest.raises(RemoteError, match="claims to lead"):
        b.step("c", AppendEntries(1, 0, 0, 0, ()), bench.now)
    with pytest.raises(RemoteError, match="later term"):
        b.step("a", AppendEntries(1, 0, 0, 0, tuple(entries(2))), bench.now)
    with pytest.raises(RemoteError, match="follow"):
        b.step("a", AppendEntries(1, 1, 1, 0, tuple(entries(1))), bench.now)
    with pytest.raises(RemoteError, match="committed"):
        b.step("a", AppendEntries(2, 0, 0, 0, tuple(entries(2))), bench.now)
    with pytest.raises(RemoteError, match="holds none"):
        b.step("a", AppendEntries(2, 2, 1, 2, (Entry(3, 2, "members", b"x"),)), bench.now)


def test_state_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="committed"):
        core("a", 3, entries(1), HardState(1, None, 2))
    with pytest.raises(ValueError, match="later term"):
        core("a", 3, entries(2), HardState(1, None, 0))
