"""Seven periods: the paper's run of seven days, in which the load is shared by turns, at shorter periods."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from appliance.experiment.laboratory import Laboratory
from appliance.experiment.result import Result, Span, Spans, Table
from appliance.local import paper
from appliance.local.watch import elections, leader_of_all, until
from appliance.node.elections import Election
from appliance.words.ids import NodeName, Term
from appliance.words.models import GlobalModel
from appliance.words.settings import Consensus

PERIOD_S = 5.0
DIGITS_EPOCHS = 5
"""So that a period has time for several rounds."""
LOOK_EVERY_S = 0.5
PATIENCE = 4
"""So many times the expected time, then it has failed."""
WHOLE = 0.9
"""A turn of this share of a period was ended by its resignation: the clock that began it is the one that ended it."""
FAIR = 2
"""Nobody leads more often than this many times its share."""


class Turn(Struct, frozen=True):
    """One leader's time.

    Attributes:
        begin, end: seconds since 1970 by its own clock; ``end`` None while it leads.
    """

    node: NodeName
    term: Term
    begin: float
    end: float | None

    @property
    def is_whole(self) -> bool:
        """Tell whether it lasted to the end of its period; else an election that nobody asked for cut it short."""
        return self.end is not None and self.end - self.begin >= WHOLE * PERIOD_S


def rotation(laboratory: Laboratory, periods: int) -> Result:
    """Run five nodes until so many periods are over. Raises OperatorError."""
    plan = msgspec.structs.replace(laboratory.flat_out(DIGITS_EPOCHS), consensus=Consensus(period_s=PERIOD_S))
    said = 0

    def enough() -> list[Turn] | None:
        nonlocal said
        turns = turns_of([own for node in cluster.nodes for own in elections(node) if own.node == node.name])
        over = up_to_period([turn for turn in turns if turn.end is not None], periods)
        for turn in over[said:]:
            laboratory.reporter.say(f"{turn.node} has led for {(turn.end or 0) - turn.begin:.1f} s")
        said, whole = len(over), sum(turn.is_whole for turn in over)
        laboratory.reporter.step(f"{turns[-1].node if turns else 'nobody'} leads", whole, periods)
        return over if whole == periods else None

    with laboratory.running(laboratory.new_cluster(plan)) as cluster:
        until(lambda: leader_of_all(cluster), "a leader whom all follow")
        within_s = 60.0 + PATIENCE * periods * PERIOD_S
        turns = until(enough, f"{periods} periods to be over", within_s, LOOK_EVERY_S)
        names = [node.name for node in cluster.nodes]
        lineage = max((node.lineage() for node in cluster.nodes), key=len)
    return result_of(turns, names, lineage, data=laboratory.data.source)


# --- what it means (pure) ---------------------------------------------------------------------------------------------


def turns_of(changes: Iterable[Election]) -> list[Turn]:
    """Return who led from when to when, oldest first, by what each node says of itself."""
    turns: list[Turn] = []
    begun: dict[NodeName, Election] = {}
    for change in sorted(changes, key=lambda change: change.at):
        if change.after == "leader":
            begun[change.node] = change
        elif change.before == "leader" and (start := begun.pop(change.node, None)) is not None:
            turns.append(Turn(change.node, start.term, start.at, change.at))
    turns += [Turn(node, start.term, start.at, None) for node, start in begun.items()]
    return sorted(turns, key=lambda turn: turn.begin)


def up_to_period(turns: Sequence[Turn], periods: int) -> list[Turn]:
    """Return the turns up to the last of so many whole periods; all if there are not so many."""
    places = [place for place, turn in enumerate(turns) if turn.is_whole]
    return list(turns[: places[periods - 1] + 1] if len(places) >= periods else turns)


def result_of(turns: Sequence[Turn], nodes: Sequence[NodeName], lineage: Sequence[GlobalModel], *, data: str) -> Result:
    """Sum up the periods that are over."""
    models = Counter(model.term for model in lineage)
    counts = {node: sum(turn.node == node for turn in turns) for node in nodes}
    share = len(turns) / len(nodes)
    most = max(counts.values())
    fair = most <= FAIR * share or most == 1
    whole = sum(turn.is_whole for turn in turns)
    cut = len(turns) - whole
    short = f", and {cut} turn{'s' if cut > 1 else ''} cut short by an election that nobody asked for" if cut else ""
    limit = "once" if most == 1 else f"twice its share of {share:.1f}"
    return Result(
        name="rotation",
        title="Rotation: the load is shared by turns",
        method=[
            f"Five node processes train on {data}, round after round; a period lasts {PERIOD_S:g} s (paper: 24 h), "
            "at whose end the leader resigns and hands over. Who led from when to when is from each node's own "
            "/v1/elections, who committed which model from the lineage.",
        ],
        findings=[
            f"{whole} periods, {whole} resignations{short}; each node led {_range(counts)} times, nobody more than "
            f"{limit}; paper: {paper.PERIODS} resignations in seven days, by turns."
            if fair
            else f"NOT fair: a node led {most} of {len(turns)} times, more than {limit}.",
            f"{sum(models[turn.term] for turn in turns)} global models were committed in them, by whoever led.",
        ],
        reached=fair,
        settings={"data": data, "nodes": len(nodes), "periods": whole, "period_s": PERIOD_S},
        rows=_rows(turns, models),
        tables=[_table(turns, counts, models)],
        figures=[
            Spans(
                name="rotation",
                title=f"Who led when: {whole} periods of {PERIOD_S:g} s",
                x_label="seconds",
                rows=list(nodes),
                spans=[Span(turn.node, turn.begin - turns[0].begin, _end(turn) - turns[0].begin) for turn in turns],
            )
        ],
    )


def _range(counts: Mapping[NodeName, int]) -> str:
    least, most = min(counts.values()), max(counts.values())
    return str(least) if least == most else f"{least} or {most}" if most - least == 1 else f"{least} to {most}"


def _end(turn: Turn) -> float:
    return turn.begin if turn.end is None else turn.end


def _rows(turns: Sequence[Turn], models: Mapping[Term, int]) -> list[dict[str, str | int | float | None]]:
    return [
        {
            "turn": number,
            "leader": turn.node,
            "term": turn.term,
            "begin_s": round(turn.begin - turns[0].begin, 3),
            "end_s": round(_end(turn) - turns[0].begin, 3),
            "is_whole": "yes" if turn.is_whole else "no",
            "models": models[turn.term],
        }
        for number, turn in enumerate(turns, start=1)
    ]


def _table(turns: Sequence[Turn], counts: Mapping[NodeName, int], models: Mapping[Term, int]) -> Table:
    whole = sum(_end(turn) - turn.begin for turn in turns)

    def row(node: NodeName) -> tuple[str, ...]:
        its = [turn for turn in turns if turn.node == node]
        seconds = sum(_end(turn) - turn.begin for turn in its)
        which = ", ".join(str(number) for number, turn in enumerate(turns, start=1) if turn.node == node)
        models_made = sum(models[turn.term] for turn in its)
        return (node, str(counts[node]), which, f"{seconds:.1f}", f"{seconds / whole:.0%}", str(models_made))

    return Table(
        f"{len(turns)} turns",
        ("node", "turns", "which", "seconds", "share", "models"),
        [row(node) for node in counts],
    )
