"""When a long wait is worth a line in the log: soon after it began, then ever more rarely."""

from collections.abc import Iterable

from appliance.node.status import Who
from appliance.rounds.actions import Waiting
from appliance.words.ids import Monotonic

FIRST_S = 5.0
MOST_S = 600.0


class Patience:
    """Watches the waits of one node: never silent for long, never the same line each second."""

    def __init__(self) -> None:
        """Nothing has been waited for yet."""
        self._due: dict[tuple[Who, Monotonic], float] = {}

    def lines(self, waits: Iterable[tuple[Who, Waiting]], now: Monotonic) -> list[str]:
        """Return what is to be logged now."""
        lines = []
        due_by_wait = {}
        for who, wait in waits:
            lasted = now - wait.since
            due = self._due.get((who, wait.since), FIRST_S)
            if lasted >= due:
                bound = "" if wait.until is None else f", {max(0.0, wait.until - now):.0f} s left"
                lines.append(f"{who}: {wait.reason} (for {lasted:.0f} s{bound})")
                due = min(2 * lasted, lasted + MOST_S)
            due_by_wait[who, wait.since] = due
        self._due = due_by_wait
        return lines
