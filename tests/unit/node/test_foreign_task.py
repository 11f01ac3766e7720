"""A node that has another task than its cluster: told so in one sentence, kept out of rounds, and no harm to them."""

import msgspec

from appliance.consensus.ready import Role
from appliance.node.core import NodeCore
from appliance.rounds import actions as do
from appliance.rounds.collected import Judged
from appliance.rounds.step import Step
from appliance.words.messages import Announcement, Opening, Participation
from appliance.words.models import Metrics
from tests.unit.lineage.test_lineage import model
from tests.unit.node.test_core import START, commit, follow, new_core, no_op

OURS, THEIRS = "cnn 1 (aaaaaaaaaaaa)", "ann 1 (bbbbbbbbbbbb)"
REASON = f"this node's task is {OURS}, and the cluster's is {THEIRS}: set [task] as on the others, restart"
COMMITTED = msgspec.structs.replace(model(0), task=THEIRS)


def _open(core: NodeCore) -> list[do.Action]:
    announced = Announcement(cluster="c", leader="node1", term=1, key_id=bytes(32), public_key=bytes(256))
    opening = Opening(
        cluster="c",
        leader="node1",
        term=1,
        round=1,
        base_version=0,
        base=COMMITTED.digest,
        key_id=bytes(32),
        accepted=0,
        expected=3,
        quorum=2,
        deadline_s=8.0,
        token_key=bytes(256),
        deliver=False,
        encoding="float32",
    )
    core.leader_said(announced, START, with_body=False)
    return core.leader_said(opening, START, with_body=False)


def test_it_says_why_once_and_that_it_takes_part_in_no_round() -> None:
    core = new_core(task=OURS, stored=frozenset({COMMITTED.digest}))
    follow(core)
    assert do.Note("error", f"kept out of rounds: {REASON}") in core.entries_committed([commit(COMMITTED)], START)
    actions = _open(core)
    assert do.Tell("node1", Participation(term=1, round=1, able=False)) in actions
    assert not any(isinstance(action, do.Train | do.AskToken) for action in actions)
    assert core.participant.step is Step.EXCLUDED
    assert core.participant.waiting.reason == f"kept out of rounds: {REASON}"
    again = core.entries_committed([commit(msgspec.structs.replace(model(1), task=THEIRS))], START)
    assert not any(isinstance(action, do.Note) for action in again)


def test_it_learns_it_from_a_snapshot_too() -> None:
    source = new_core(task=THEIRS)
    source.entries_committed([commit(COMMITTED)], START)
    core = new_core(task=OURS)
    assert do.Note("error", f"kept out of rounds: {REASON}") in core.restore(source.snapshot(), START)


def test_it_leads_nobody() -> None:
    core = new_core(task=OURS, stored=frozenset({COMMITTED.digest}))
    core.entries_committed([commit(COMMITTED)], START)
    core.role_changed(Role.LEADER, 1, "node0", START)
    actions = core.entries_committed([no_op(1)], START)
    assert do.HandOver() in actions
    assert not any(isinstance(action, do.StartCollecting) for action in core.tick(START))


def test_the_same_task_and_a_lineage_of_before_there_were_tasks_keep_nobody_out() -> None:
    for committed in (COMMITTED, model(0)):
        core = new_core(task=THEIRS, stored=frozenset({committed.digest}))
        follow(core)
        core.entries_committed([commit(committed)], START)
        assert any(isinstance(action, do.Train) for action in _open(core))


def test_what_a_leader_commits_carries_its_task() -> None:
    core = new_core(task=THEIRS, members=1)
    core.role_changed(Role.LEADER, 1, "node0", START)
    core.entries_committed([no_op(1)], START)
    core.aggregator.key_ready(1, bytes(32), bytes(256), START)
    actions = core.aggregator.aggregated(1, 0, Judged(COMMITTED.digest, Metrics(0.1, 2.3, 10)), START)
    (proposed,) = [action for action in actions if isinstance(action, do.Propose)]
    assert proposed.model.task == THEIRS
