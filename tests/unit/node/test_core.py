"""A node's decisions on what consensus and the mesh bring."""

import msgspec
import pytest

from appliance.consensus.messages import Entry
from appliance.consensus.ready import Role
from appliance.node.core import NodeCore
from appliance.rounds import actions as do
from appliance.rounds.collected import Judged, OpenedUpdate, Phase
from appliance.rounds.participant import FinishedUpdate
from appliance.rounds.step import Step
from appliance.words.errors import OperatorError, StateError
from appliance.words.ids import Digest, Monotonic, NodeName
from appliance.words.messages import Announcement, Candidate, LeaderStatement, Opening
from appliance.words.models import GlobalModel, Metrics
from appliance.words.settings import Consensus, Delivery, Models, Rounds
from tests.unit.lineage.test_lineage import model

START = Monotonic(100.0)


def new_core(
    *,
    members: int = 3,
    term: int = 0,
    stored: frozenset[Digest] = frozenset(),
    period_s: float = 40.0,
    task: str = "",
    joins: bool = False,
    models: Models = Models(),  # noqa: B008 - frozen
    most_drop: float = 1.0,
) -> NodeCore:
    """Return the core of node0 as it begins."""
    return NodeCore(
        node="node0",
        cluster="c",
        members=frozenset(f"node{index}" for index in range(members)),
        rounds=Rounds(deadline_s=8.0, interval_s=0.0),
        consensus=Consensus(period_s=period_s),
        delivery=Delivery(window_s=0.0),
        key_rounds=100,
        term=term,
        kept=None,
        stored=stored,
        now=START,
        task=task,
        joins=joins,
        models=models,
        most_drop=most_drop,
    )


def no_op(term: int) -> Entry:
    """Return the first entry of a leader's term."""
    return Entry(1, term, "no-op", b"node0")


def commit(committed: GlobalModel, term: int = 1) -> Entry:
    """Return the entry that commits a model."""
    return Entry(1, term, "data", msgspec.msgpack.encode(committed))


def lead(core: NodeCore, term: int = 1) -> list[do.Action]:
    """Let node0 lead a term."""
    core.role_changed(Role.LEADER, term, "node0", START)
    return core.entries_committed([no_op(term)], START)


def follow(core: NodeCore, leader: NodeName = "node1", term: int = 1) -> None:
    """Let node0 follow."""
    core.role_changed(Role.FOLLOWER, term, leader, START)


def _removed(actions: list[do.Action]) -> set[Digest]:
    return {digest for action in actions if isinstance(action, do.RemoveModels) for digest in action.digests}


# --- leading ----------------------------------------------------------------------------------------------------------


def test_the_aggregator_is_active_from_its_first_committed_entry_on() -> None:
    core = new_core()
    core.role_changed(Role.LEADER, 1, "node0", START)
    assert not core.is_leading
    assert core.entries_committed([no_op(1)], START) == [do.MakeLeaderKey(1)]
    assert core.is_leading
    assert core.role_changed(Role.FOLLOWER, 2, "node1", START) == []
    assert not core.is_leading


def test_the_first_entry_of_another_term_makes_no_aggregator() -> None:
    core = new_core()
    core.role_changed(Role.LEADER, 2, "node0", START)
    assert core.entries_committed([no_op(1)], START) == []
    follow(core, term=3)
    assert core.entries_committed([no_op(3)], START) == []
    assert not core.is_leading


def test_a_leader_knows_the_head_and_whether_its_bytes_are_here() -> None:
    for stored, phase in ((frozenset({model(0).digest}), Phase.COLLECTING), (frozenset[Digest](), Phase.PREPARING)):
        core = new_core(stored=stored)
        core.role_changed(Role.LEADER, 1, "node0", START)
        core.entries_committed([commit(model(0)), no_op(1)], START)
        core.aggregator.key_ready(1, bytes(32), bytes(256), START)
        assert core.aggregator.phase is phase


def test_a_leader_of_the_next_term_in_a_row_begins_anew() -> None:
    core = new_core()
    lead(core, 1)
    core.role_changed(Role.LEADER, 2, "node0", START)
    assert not core.is_leading
    assert core.entries_committed([no_op(2)], START) == [do.MakeLeaderKey(2)]


# --- what a leader says -----------------------------------------------------------------------------------------------


def _statements(leader: NodeName, term: int) -> list[LeaderStatement]:
    return [
        Announcement("c", leader, term, bytes(32), bytes(256)),
        Opening(
            "c",
            leader,
            term,
            1,
            0,
            model(0).digest,
            bytes(32),
            0,
            3,
            2,
            8.0,
            bytes(256),
            deliver=True,
            encoding="float32",
        ),
        Candidate("c", leader, term, 1, 1, model(1).digest),
    ]


@pytest.mark.parametrize(("leader", "term"), [("node2", 3), ("node0", 3), ("node1", 2), ("node1", 4)])
def test_statements_of_another_leader_or_term_are_ignored(leader: NodeName, term: int) -> None:
    core = new_core(stored=frozenset({model(0).digest, model(1).digest}))
    follow(core, "node1", 3)
    for statement in _statements(leader, term):
        assert core.leader_said(statement, START, with_body=True) == []
    assert core.participant.step is Step.NO_LEADER
    assert core.participant.opening is None


def test_statements_are_ignored_while_there_is_no_leader() -> None:
    core = new_core()
    core.role_changed(Role.CANDIDATE, 3, None, START)
    for statement in _statements("node1", 3):
        assert core.leader_said(statement, START, with_body=True) == []


def test_the_leader_is_followed() -> None:
    core = new_core(stored=frozenset({model(0).digest, model(1).digest}))
    follow(core, "node1", 3)
    announcement, opening, candidate = _statements("node1", 3)
    assert core.leader_said(announcement, START, with_body=False) == []
    assert core.leader_said(opening, START, with_body=False) == [
        do.Train(1, model(0).digest),
        do.AskToken("node1", 3, 1, bytes(256)),
    ]
    [answer] = core.leader_said(candidate, START, with_body=False)
    assert isinstance(answer, do.Tell)
    assert answer.to == "node1"


def test_a_leader_does_not_answer_itself() -> None:
    core = new_core(stored=frozenset({model(1).digest}))
    lead(core, 3)
    assert core.leader_said(_statements("node0", 3)[2], START, with_body=False) == []


def test_what_the_leader_said_does_not_keep_a_removed_node_waiting() -> None:
    core = new_core(stored=frozenset({model(0).digest}))
    follow(core, "node1", 3)
    announcement, opening, _ = _statements("node1", 3)
    core.leader_said(announcement, START, with_body=False)
    core.leader_said(opening, START, with_body=False)
    core.participant.token_received(bytes(256), START)
    core.participant.trained(FinishedUpdate(bytes(16), 1, model(0).digest), START)
    assert core.participant.waiting.reason.startswith("waiting for the leader's receipt")
    core.members_changed(frozenset({"node1", "node2"}), START, is_member=False)
    assert core.participant.step is Step.NO_LEADER
    assert core.tick(Monotonic(START + 1000.0)) == []


# --- the lineage ------------------------------------------------------------------------------------------------------


def test_a_snapshot_too_says_by_which_leader_the_kept_updates_round_was_committed() -> None:
    """The node was down meanwhile, and the rounds after it are in the snapshot as well."""
    models = [model(0), model(1, term=2), model(2, term=4)]
    for kept_round, forgotten in ((1, do.Forget(bytes(16), 2)), (2, do.Forget(bytes(16), 4))):
        core = new_core()
        core.participant.trained(FinishedUpdate(bytes(16), kept_round, model(kept_round - 1).digest), START)
        actions = core.restore(msgspec.msgpack.encode(models), START)
        assert [action for action in actions if isinstance(action, do.Forget)] == [forgotten]


def test_a_second_model_for_a_round_is_left_out_and_said() -> None:
    core = new_core()
    core.entries_committed([commit(model(0)), commit(model(1))], START)
    [note] = core.entries_committed([commit(model(1, "other", term=2), 2)], START)
    assert isinstance(note, do.Note)
    assert "round 1 does not follow: left out" in note.text
    assert core.lineage.head == model(1)


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode({"version": 1, "from": "the future"})])
def test_an_entry_of_another_version_ends_the_node_with_a_sentence(data: bytes) -> None:
    """Left out here and applied elsewhere, it would fork the lineage (invariant 2)."""
    core = new_core()
    with pytest.raises(StateError, match=r"entry 7 of the consensus log can't be read here .* same version"):
        core.entries_committed([Entry(7, 1, "data", data)], START)


def test_both_sides_learn_of_a_commit() -> None:
    core = new_core(stored=frozenset({model(0).digest}))
    core.participant.trained(FinishedUpdate(bytes(16), 1, model(0).digest), START)
    actions = core.entries_committed([commit(model(0)), commit(model(1))], START)
    assert do.Forget(bytes(16), model(1).term) in actions


# --- candidates stay on disk while they may be committed (invariant 3) ------------------------------------------------


def test_a_candidate_stays_while_its_leader_may_commit_it() -> None:
    core = new_core()
    follow(core, "node1", 1)
    candidate = model(1, "candidate")
    core.entries_committed([commit(model(0))], START)
    core.model_stored(candidate.digest, START)
    # Another model is committed for the round, in the same term: the candidate may still be in the log behind it.
    assert candidate.digest not in _removed(core.entries_committed([commit(model(1))], START))
    assert candidate.digest not in _removed(core.entries_committed([commit(model(2))], START))
    assert candidate.digest in core.stored


def test_a_candidate_goes_once_a_later_term_has_committed() -> None:
    core = new_core()
    follow(core, "node1", 1)
    candidate = model(1, "candidate")
    core.entries_committed([commit(model(0))], START)
    core.model_stored(candidate.digest, START)
    follow(core, "node2", 2)
    assert candidate.digest in _removed(core.entries_committed([commit(model(1, term=2), 2)], START))
    assert candidate.digest not in core.stored


def test_a_candidate_that_is_committed_stays_as_one_of_the_newest() -> None:
    core = new_core()
    follow(core, "node1", 1)
    core.model_stored(model(0).digest, START)
    follow(core, "node2", 2)
    assert _removed(core.entries_committed([commit(model(0)), commit(model(1, term=2), 2)], START)) == set()
    assert model(0).digest in core.stored


def test_a_candidate_found_on_disk_after_a_restart_stays_too() -> None:
    """The node died after storing it in term 5, and can't know what became of it."""
    candidate = model(2, "candidate").digest
    core = new_core(term=5, stored=frozenset({model(0).digest, model(1).digest, candidate}))
    replay = [commit(model(0), 3), commit(model(1, term=5), 5)]
    assert _removed(core.entries_committed(replay, START)) == set()
    follow(core, "node1", 5)
    assert _removed(core.entries_committed([commit(model(2, term=5), 5)], START)) == set()
    follow(core, "node1", 6)
    assert _removed(core.entries_committed([commit(model(3, term=6), 6)], START)) == {candidate}


def test_only_the_newest_committed_models_stay() -> None:
    core = new_core()
    removed: list[Digest] = []
    for round_ in range(8 + 3):
        core.model_stored(model(round_).digest, START)
        removed += sorted(_removed(core.entries_committed([commit(model(round_))], START)))
    assert removed == [model(round_).digest for round_ in range(3)]
    assert core.stored == {model(round_).digest for round_ in range(3, 8 + 3)}


def test_what_is_found_damaged_is_not_answered_for_any_more() -> None:
    core = new_core(stored=frozenset({model(0).digest}))
    core.models_dropped(frozenset({model(0).digest}))
    assert core.stored == frozenset()


def test_every_nth_model_stays_too() -> None:
    core = new_core(models=Models(keep=2, keep_every=4, keep_old=2))
    for round_ in range(16):
        core.model_stored(model(round_).digest, START)
        core.entries_committed([commit(model(round_))], START)
    assert core.stored == {model(round_).digest for round_ in (8, 12, 14, 15)}


# --- going back to an earlier model -----------------------------------------------------------------------------------


def rollback(version: int, to: int) -> GlobalModel:
    """Return the entry that makes an earlier model the head again."""
    return model(version, f"m{to}", base=f"m{version - 1}", rolled_back_to=to, updates=0, expected=0, samples=0)


def _leading_from(core: NodeCore, newest: int) -> None:
    for round_ in range(newest + 1):
        core.model_stored(model(round_).digest, START)
        core.entries_committed([commit(model(round_))], START)
    lead(core, 2)
    core.aggregator.key_ready(2, bytes(32), bytes(256), START)
    assert core.aggregator.phase is Phase.COLLECTING


def test_a_rollback_that_cannot_be_is_refused_with_the_reason() -> None:
    core = new_core(models=Models(keep=3))
    with pytest.raises(OperatorError, match="version 0 is not in the lineage"):
        core.roll_back(0, START)
    _leading_from(core, 5)
    for version, why in {
        9: "version 9 is not in the lineage",
        5: "version 5, the newest, has the bytes of version 5 already",
        1: "the bytes of version 1 are not on this node",
    }.items():
        with pytest.raises(OperatorError, match=why):
            core.roll_back(version, START)
    assert do.BringBack(2, 6, model(3).digest) in core.roll_back(3, START)
    with pytest.raises(OperatorError, match="a rollback to version 3 is under way"):
        core.roll_back(4, START)


def test_a_leader_that_hands_over_takes_no_rollback() -> None:
    core = new_core()
    _leading_from(core, 2)
    core.resign(START)
    with pytest.raises(OperatorError, match="leadership is moving"):
        core.roll_back(1, START)


def test_rounds_go_on_from_the_model_that_came_back() -> None:
    core = new_core()
    _leading_from(core, 2)
    core.roll_back(1, START)
    core.model_stored(model(1).digest, START)
    core.aggregator.aggregated(2, 3, Judged(model(1).digest, Metrics(0.5, 1.0, 10)), START)
    actions = core.entries_committed([commit(rollback(3, 1), 2)], START)
    assert do.StartCollecting(2, 4, model(1).digest, "float32") in actions
    assert core.aggregator.rollback is None


def test_what_is_asked_for_stays_while_a_round_is_being_committed_before() -> None:
    """The round's own commit makes it too old to be kept; and settles all else that this leader stored."""
    core = new_core(members=1, models=Models(keep=2))
    _leading_from(core, 2)
    core.aggregator.round_begun(2, 3, bytes(256), START)
    core.aggregator.opened_update(OpenedUpdate(1, bytes(16), bytes(32), 3, model(2).digest, 10, ""), START)
    assert core.aggregator.phase is Phase.AGGREGATING
    core.roll_back(1, START)
    core.model_stored(model(3).digest, START)
    core.aggregator.aggregated(2, 3, Judged(model(3).digest, Metrics(0.5, 1.0, 10)), START)
    actions = core.entries_committed([commit(model(3, term=2), 2)], START)
    assert do.BringBack(2, 4, model(1).digest) in actions
    assert model(1).digest not in _removed(actions)
    assert core.stored == {model(version).digest for version in (1, 2, 3)}


def test_an_old_model_that_this_node_said_it_holds_stays_until_it_is_decided() -> None:
    """Invariant 3: entries that a slow node hears of later make it too old, and it was counted on."""
    core = new_core(models=Models(keep=2))
    for round_ in range(2):
        core.model_stored(model(round_).digest, START)
        core.entries_committed([commit(model(round_))], START)
    follow(core, "node1", 1)
    [answer] = core.leader_said(Candidate("c", "node1", 1, 4, 4, model(0).digest), START, with_body=False)
    assert isinstance(answer, do.Tell)
    for round_ in (2, 3):
        core.model_stored(model(round_).digest, START)
        assert model(0).digest not in _removed(core.entries_committed([commit(model(round_))], START))
    core.entries_committed([commit(rollback(4, 0))], START)
    assert core.lineage.head is not None
    assert core.lineage.head.digest == model(0).digest
    assert model(0).digest in core.stored


def test_what_a_leader_made_and_did_not_publish_goes_with_its_next_commit() -> None:
    core = new_core(members=1, most_drop=0.1)
    _leading_from(core, 2)
    core.aggregator.round_begun(2, 3, bytes(256), START)
    core.aggregator.opened_update(OpenedUpdate(1, bytes(16), bytes(32), 3, model(2).digest, 10, ""), START)
    made = model(3, "worse").digest
    core.model_stored(made, START)
    judged = core.aggregator.aggregated(2, 3, Judged(made, Metrics(0.5, 1.0, 10), Metrics(0.9, 0.3, 10)), START)
    [proposed] = [action.model for action in judged if isinstance(action, do.Propose)]
    assert (proposed.digest, proposed.accuracy, proposed.updates) == (model(2).digest, 0.9, 1)
    assert "fell by more than 0.1" in proposed.withheld
    actions = core.entries_committed([commit(proposed, 2)], START)
    assert _removed(actions) == {made}
    assert do.StartCollecting(2, 4, model(2).digest, "float32") in actions


# --- periods and handing over -----------------------------------------------------------------------------------------


def _at(seconds: float) -> Monotonic:
    return Monotonic(START + seconds)


def test_a_leader_resigns_when_its_period_is_over_and_only_then() -> None:
    core = new_core(period_s=40.0)
    lead(core)
    assert core.period_left_s(_at(39.0)) == 1.0
    assert do.HandOver() not in core.tick(_at(39.9))
    assert do.HandOver() in core.tick(_at(40.0))
    assert do.HandOver() not in core.tick(_at(41.0))
    assert core.period_left_s(_at(45.0)) == 0.0


def test_a_follower_has_no_period() -> None:
    core = new_core(period_s=40.0)
    follow(core)
    assert core.period_left_s(_at(1000.0)) is None
    assert core.tick(_at(1000.0)) == []


def test_who_does_not_lead_has_nothing_to_resign() -> None:
    core = new_core()
    assert core.resign(START) == []
    core.role_changed(Role.LEADER, 1, "node0", START)
    assert core.resign(START) == []
    core.entries_committed([no_op(1)], START)
    assert core.resign(START) == [do.HandOver()]
    assert core.resign(START) == []


def test_a_cluster_of_one_leads_on_for_another_period() -> None:
    core = new_core(members=1, period_s=40.0, stored=frozenset({model(0).digest}))
    core.role_changed(Role.LEADER, 1, "node0", START)
    core.entries_committed([commit(model(0)), no_op(1)], START)
    core.aggregator.key_ready(1, bytes(32), bytes(256), START)
    assert core.aggregator.phase is Phase.COLLECTING
    assert do.HandOver() in core.tick(_at(40.0))
    assert do.MakeLeaderKey(1) in core.hand_over_declined(_at(40.0))
    core.aggregator.key_ready(1, b"\x01" * 32, bytes(256), _at(40.1))
    actions = core.tick(_at(45.0))
    assert core.aggregator.phase is Phase.COLLECTING
    assert do.HandOver() not in actions
    assert core.period_left_s(_at(45.0)) == 35.0
    assert do.HandOver() in core.tick(_at(80.0))


def test_a_refusal_that_comes_after_leadership_changes_nothing() -> None:
    core = new_core()
    lead(core)
    core.resign(START)
    core.role_changed(Role.FOLLOWER, 2, "node1", _at(1.0))
    assert core.hand_over_declined(_at(5.0)) == []
    assert core.leader_since == _at(1.0)


def test_since_when_there_is_a_leader_or_none() -> None:
    core = new_core()
    core.role_changed(Role.CANDIDATE, 1, None, _at(1.0))
    core.role_changed(Role.CANDIDATE, 2, None, _at(2.0))
    assert core.leader_since == START, "there was none all the time"
    core.role_changed(Role.FOLLOWER, 2, "node1", _at(3.0))
    assert core.leader_since == _at(3.0)
    assert core.role_changed(Role.FOLLOWER, 2, "node1", _at(4.0)) == []
    assert core.leader_since == _at(3.0)
    core.role_changed(Role.CANDIDATE, 3, None, _at(5.0))
    assert core.leader_since == _at(5.0)
