"""The comparison as a Markdown table. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.peers.figures import GOALS, Figures, figures
from bench.peers.measure import Recovery, Samples

_NONE = "–"


@dataclass(slots=True)
class Entry:
    """What is known of one contender.

    Attributes:
        title: its name in the table.
        runs: those that went well.
        recoveries: of its kills.
        failures: why others did not go well.
    """

    title: str
    runs: list[Samples] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def table(entries: Mapping[str, Entry], floor: str) -> str:
    """Return a row for each contender.

    Args:
        entries: by the contenders' keys, in the order of the rows.
        floor: the key of the one that the others' rounds are divided by; it may be missing.
    """
    known = {key: figures(entry.runs) for key, entry in entries.items() if entry.runs}
    goals = [f"s to {goal:.2%}".replace(".00%", "%").replace("%", " %") for goal in GOALS]
    heads = ["", "s a round", "to the floor", *goals, "peak PSS, MB", "peak RSS, MB", "MB a round", "start, s"]
    lines = [_row([*heads, "aggregator killed"]), "|---" * (len(heads) + 1) + "|"]
    for key, entry in entries.items():
        if key in known:
            cells = _cells(known[key], known.get(floor))
        else:
            cells = ["failed" if entry.failures else _NONE] + [_NONE] * (len(heads) - 2)
        lines.append(_row([entry.title, *cells, "; ".join(map(recovery, entry.recoveries)) or _NONE]))
    return "\n".join(lines)


def _cells(one: Figures, floor: Figures | None) -> list[str]:
    return [
        f"{one.round_s:.2f}",
        _NONE if floor is None else f"{one.round_s / floor.round_s:.2f}",
        *(_NONE if seconds is None else f"{seconds:.1f}" for seconds in one.goals_s),
        f"{one.pss_mb:,.0f}",
        f"{one.rss_mb:,.0f}",
        f"{one.mb_a_round:.1f}" if one.mb_a_round > 0 else _NONE,
        f"{one.started_s:.0f}",
    ]


def recovery(one: Recovery) -> str:
    """Return what happened after a kill, in words."""
    if one.next_model_s is not None:
        return f"next model {one.next_model_s:.1f} s after {one.killed} was killed"
    words = f"no model within {one.waited_s:.0f} s after {one.killed} was killed ({one.left})"
    if not one.revived:
        return words
    after = "begins again with round 1" if one.then == 1 else f"goes on with round {one.then}"
    return f"{words}; {one.revived}: " + ("no model either" if one.then is None else after)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
