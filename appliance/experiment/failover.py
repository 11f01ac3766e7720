"""How long a cluster is without a leader, and without a new global model, when its leader is killed in mid-work."""

import random
import time
from collections.abc import Sequence

from msgspec import Struct

from appliance.experiment.laboratory import Laboratory
from appliance.experiment.result import Bins, Histogram, Result, Table
from appliance.experiment.statistics import Durations
from appliance.local import paper
from appliance.local.processes import Cluster, NodeProcess
from appliance.local.watch import Safety, leader_of_all, statuses, until
from appliance.words.ids import NodeName

SETTLES_WITHIN_S = 3.0
"""The longest time that a new leader leads before it is killed."""
LEADER_STEP_S, MODEL_STEP_S = 0.1, 0.25


class Kill(Struct, frozen=True):
    """One killed leader, and the seconds until another led and until the next global model was committed."""

    victim: NodeName
    leader_s: float
    model_s: float


def failover(laboratory: Laboratory, kills: int, seed: int) -> Result:
    """Kill one leader after another. Raises OperatorError."""
    chance, safety = random.Random(seed), Safety()  # noqa: S311 - spreads the kills, protects nothing
    seen = []
    with laboratory.running(laboratory.new_cluster(laboratory.flat_out())) as cluster:
        for number in range(kills):
            laboratory.reporter.step("kill -9 the leader", number, kills)
            victim = leader_to_kill(cluster, chance, safety)
            kill = kill_and_time(cluster, victim)
            laboratory.reporter.say(
                f"kill {number + 1} of {kills}: {kill.victim}, leader {kill.leader_s:.2f} s, model {kill.model_s:.2f} s"
            )
            victim.start()
            seen.append(kill)
        until(lambda: leader_of_all(cluster, version=1), "all nodes to be up again")
        safety.look(cluster.nodes)
    return result_of(seen, safety.problems, data=laboratory.data.source, seed=seed)


def leader_to_kill(cluster: Cluster, chance: random.Random, safety: Safety) -> NodeProcess:
    """Wait until all is well, and then for a random time; return who leads then."""
    while True:
        leader = until(lambda: leader_of_all(cluster, version=1), "all nodes up, with a leader and a model")
        time.sleep(chance.uniform(0.0, SETTLES_WITHIN_S))
        safety.look(cluster.nodes)
        status = leader.status()
        if status is not None and status.role == "leader":
            return leader


def kill_and_time(cluster: Cluster, victim: NodeProcess) -> Kill:
    """Kill a leader with SIGKILL; times include the polling (20 ms)."""
    survivors = [node for node in cluster.nodes if node is not victim]
    version = max(status.model.version for status in statuses(survivors) if status.model is not None)
    killed = time.monotonic()
    victim.kill()

    def led() -> bool:
        return any(status.leader not in (None, victim.name) for status in statuses(survivors))

    def committed() -> bool:
        return any(status.model is not None and status.model.version > version for status in statuses(survivors))

    until(led, "a new leader")
    election = time.monotonic() - killed
    until(committed, "the next committed model")
    return Kill(victim.name, election, time.monotonic() - killed)


# --- what it means (pure) ---------------------------------------------------------------------------------------------


def result_of(kills: Sequence[Kill], problems: Sequence[str], *, data: str, seed: int) -> Result:
    """Sum up the kills."""
    leader_s, model_s = [kill.leader_s for kill in kills], [kill.model_s for kill in kills]
    leaders, models = Durations.of(leader_s), Durations.of(model_s)
    safe = "no lineage forked and no term had two leaders" if not problems else "; ".join(problems)
    return Result(
        name="failover",
        title="Failover: leaders killed while all train",
        method=[
            f"Five node processes train on {data}, round after round without rest; default consensus settings. "
            f"{len(kills)} times the leader is killed with -9 at a random moment, 0 to {SETTLES_WITHIN_S:g} s after "
            "all nodes were up and followed it; the survivors are asked every 20 ms who leads and which model is "
            "committed; then the dead node is started again.",
            "The paper's leader was shut down on purpose, once; what it waited for it does not say.",
        ],
        findings=[
            f"A new leader after {leaders.median:.2f} s (median of {len(kills)} kills; 90 % within "
            f"{leaders.p90:.2f} s, worst {leaders.worst:.2f} s); paper: {paper.NEW_LEADER_S:.0f} s.",
            f"The next global model was committed {models.median:.2f} s after the kill (median; 90 % within "
            f"{models.p90:.2f} s, worst {models.worst:.2f} s).",
            f"Looked for all along: {safe}.",
        ],
        reached=not problems and leaders.worst < paper.NEW_LEADER_S,
        settings={"data": data, "kills": len(kills), "seed": seed},
        rows=[
            {
                "kill": number,
                "victim": kill.victim,
                "leader_s": round(kill.leader_s, 3),
                "model_s": round(kill.model_s, 3),
            }
            for number, kill in enumerate(kills, start=1)
        ],
        tables=[
            Table(
                f"Seconds after the kill, {len(kills)} kills",
                ("until", "least", "median", "90 %", "worst", "paper"),
                [
                    _row("a new leader", leaders, f"{paper.NEW_LEADER_S:.0f}"),
                    _row("the next committed model", models, ""),
                ],
            )
        ],
        figures=[
            Histogram(
                name="failover",
                title=f"{len(kills)} leaders killed with -9 while five nodes train",
                x_label="seconds after the kill",
                y_label="kills",
                series=[
                    Bins("until a new leader", leader_s, LEADER_STEP_S),
                    Bins("until the next committed model", model_s, MODEL_STEP_S),
                ],
            )
        ],
    )


def _row(until_what: str, seconds: Durations, theirs: str) -> tuple[str, ...]:
    ours = seconds.least, seconds.median, seconds.p90, seconds.worst
    return (until_what, *(f"{value:.2f}" for value in ours), theirs)
