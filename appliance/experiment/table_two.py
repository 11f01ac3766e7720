"""Table II: which node is follower, candidate or leader at the start, at an election, a resignation, a re-election."""

import time
from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from appliance.experiment.laboratory import Laboratory
from appliance.experiment.result import Result, Table
from appliance.local.processes import NodeProcess
from appliance.local.timeline import LETTERS, Row, Timeline
from appliance.local.watch import elections, leader_of_all, until
from appliance.operator_api.client import NodeApi
from appliance.words.ids import NodeName

START, ELECTION, RESIGNATION, RE_ELECTION = "start", "election", "resignation", "re-election"
LEADER, CANDIDATE = LETTERS["leader"], LETTERS["candidate"]
STEPS = 3


class Step(Struct, frozen=True):
    """A row of the table: what happened, and to which of the paper's steps it belongs."""

    name: str
    row: Row


def table_two(laboratory: Laboratory) -> Result:
    """Start a cluster, ask its leader to resign, and tell what all nodes were meanwhile. Raises OperatorError."""
    reporter = laboratory.reporter
    reporter.step("five nodes start", 0, STEPS)
    files, started_at = laboratory.new_cluster(laboratory.flat_out()), time.time()
    with laboratory.running(files) as cluster:
        timeline = Timeline([node.name for node in cluster.nodes], started_at)
        first = until(lambda: leader_of_all(cluster), "a leader whom all follow")
        reporter.say(f"{first.name} is elected")
        reporter.step("rounds are committed", 1, STEPS)
        until(lambda: leader_of_all(cluster, version=1), "a committed round")
        NodeApi(first.config.operator).resign()
        reporter.say(f"{first.name} is asked to resign")
        reporter.step("another node is elected", 2, STEPS)

        def successor() -> NodeProcess | None:
            leader = leader_of_all(cluster)
            return leader if leader is not first else None

        second = until(successor, "another leader whom all follow")
        reporter.say(f"{second.name} is elected")
        for node in cluster.nodes:
            timeline.add_elections(node.name, elections(node))
    return result_of(timeline.rows(), data=laboratory.data.source)


# --- what it means (pure) ---------------------------------------------------------------------------------------------


def steps_of(rows: Sequence[Row]) -> list[Step]:
    """Name the paper's step to which each row belongs."""
    steps = [Step(START, rows[0])]
    elected = False
    for before, after in pairwise(rows):
        changed = next((node for node in after.states if before.states[node] != after.states[node]), None)
        resigned = changed is not None and before.states[changed] == LEADER
        steps.append(Step(RESIGNATION if resigned else RE_ELECTION if elected else ELECTION, after))
        elected = elected or LEADER in after.states.values()
    return steps


def result_of(rows: Sequence[Row], *, data: str) -> Result:
    """Sum up what the nodes said."""
    steps = steps_of(rows)
    leaders = _leaders(rows)
    last = list(rows[-1].states.values())
    reached = len(leaders) == 2 and leaders[0] != leaders[1] and last.count(LEADER) == 1 and CANDIDATE not in last
    nodes = list(rows[0].states)
    return Result(
        name="table2",
        title="Table II: follower, candidate, leader",
        method=[
            f"{len(nodes)} node processes start and train. When all follow one leader and a round is committed, the "
            "leader is asked to resign (p2pfl-node resign), as it does at the end of its period. What each node was "
            "when is from its own /v1/elections.",
            "Who would stand asks the others first whether they would vote for it (pre-vote), so mostly only one "
            "stands. A leader that resigns hands over to another node, which stands at once. The old one hears of the "
            "new term a moment later, and until then says L, of the term before: no term has two leaders.",
        ],
        findings=_findings(steps, leaders, reached=reached),
        reached=reached,
        settings={"data": data, "nodes": len(nodes)},
        rows=[
            {
                "after_s": round(step.row.after_s, 3),
                "step": step.name,
                "what": step.row.what,
                "term": step.row.term,
                **step.row.states,
            }
            for step in steps
        ],
        tables=[
            Table(
                "Table II: F follower, C candidate, L leader",
                ("step", "after", "term", *nodes),
                [
                    (step.name, f"{step.row.after_s:.2f} s", str(step.row.term), *step.row.states.values())
                    for step in steps
                ],
            )
        ],
        figures=[],
    )


def _leaders(rows: Sequence[Row]) -> list[NodeName]:
    """Return who became leader, in order."""
    return [
        node
        for before, after in pairwise(rows)
        for node, state in after.states.items()
        if state == LEADER and before.states[node] != LEADER
    ]


def _findings(steps: Sequence[Step], leaders: Sequence[NodeName], *, reached: bool) -> list[str]:
    if not reached:
        return [f"NOT as in the paper: leaders were {', '.join(leaders) or 'none'}; see the table."]
    resigned = next(step.row.after_s for step in steps if step.name in (RESIGNATION, RE_ELECTION))
    again = next(
        step.row.after_s for step in steps if step.name == RE_ELECTION and step.row.states[leaders[1]] == LEADER
    )
    return [
        f"All nodes start as followers; {leaders[0]} is elected; when it resigns, {leaders[1]} is elected, and all "
        "others follow it: the paper's sequence of follower, candidate and leader.",
        f"The re-election took {max(0.0, again - resigned):.2f} s.",
    ]
