"""The demonstration's acts, in order: each waits for what it promises, with a bound, and fails in one sentence."""

import re
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from appliance.local.processes import Cluster, NodeProcess
from appliance.local.timeline import Timeline
from appliance.local.watch import all_have, elections, until
from appliance.operator_api.client import NodeApi
from appliance.operator_api.views import Status, UpdateView
from appliance.words.errors import OperatorError
from appliance.words.ids import NodeName, Round
from appliance.words.models import GlobalModel

T = TypeVar("T")

POLL_S = 0.05
START_WITHIN_S = 45.0
ACT_WITHIN_S = 60.0
ROUNDS_BEFORE_KILL = 2

_COUNTED = re.compile(r"waiting for updates of round (\d+): (\d+) of \d+")


class Display(Protocol):
    """Where the story is shown."""

    def say(self, text: str) -> None:
        """Show an event, for good."""

    def show(self, states: dict[NodeName, Status | None]) -> None:
        """Show how the nodes are now, until the next time."""


class Story:
    """One performance. ``perform`` raises OperatorError, in one sentence, as soon as something promised fails."""

    def __init__(self, cluster: Cluster, rounds: int, display: Display) -> None:
        """``rounds``: how many must be committed, the kill and the resignation among them."""
        self._cluster = cluster
        self._rounds = rounds
        self._display = display
        self._pool = ThreadPoolExecutor(len(cluster.nodes), "poll")
        self._started = time.monotonic()
        self._states: dict[NodeName, Status | None] = {}
        self._version = -1
        self.timeline = Timeline([node.name for node in cluster.nodes], time.time())
        self.updates: dict[Round, dict[NodeName, UpdateView]] = defaultdict(dict)
        self.lineage: list[GlobalModel] = []
        self.election_s = self.recovery_s = 0.0
        self.killed_in_round = 0

    def perform(self) -> None:
        """Play all acts."""
        leader = self._until("a leader", START_WITHIN_S, self._agreed_leader)
        self._display.say(f"{leader} is elected leader and becomes the aggregator")
        self._until(f"{ROUNDS_BEFORE_KILL} rounds", ACT_WITHIN_S, lambda: self._version >= ROUNDS_BEFORE_KILL)
        victim = self._kill_leader_in_mid_round()
        self._recover(victim)
        self._restart(victim)
        self._resign()
        self._until(f"{self._rounds} rounds on every node", ACT_WITHIN_S, self.is_over)
        self._check_lineages()
        self._stop()

    # --- acts --------------------------------------------------------------------------------------------------------

    def _kill_leader_in_mid_round(self) -> NodeProcess:
        """Kill the leader while it holds some updates of a round, and waits for others."""

        def caught() -> tuple[NodeProcess, int, int] | None:
            name = self._agreed_leader()
            if name is None:
                return None
            status = self._cluster[name].status()
            waits = [] if status is None else [_COUNTED.match(wait.reason) for wait in status.waiting]
            counts = [(int(match[1]), int(match[2])) for match in waits if match]
            return (self._cluster[name], *counts[0]) if counts and counts[0][1] > 0 else None

        victim, round_, counted = self._until("a round with some updates in it", ACT_WITHIN_S, caught)
        self._collect_elections(victim)
        at = time.time()
        victim.kill()
        self.killed_in_round = round_
        self.timeline.add(at, victim.name, "dead", f"{victim.name} is killed")
        self._display.say(f"kill -9 {victim.name}, the leader, in round {round_} with {counted} updates counted")
        return victim

    def _recover(self, victim: NodeProcess) -> None:
        """Another node must lead, and commit the round that was open, from updates trained once."""
        killed = time.monotonic()
        round_ = self.killed_in_round
        leader = self._until("a new leader", ACT_WITHIN_S, self._agreed_leader)
        self.election_s = time.monotonic() - killed
        self._display.say(f"{leader} is elected after {self.election_s:.2f} s, and opens round {round_} again")
        self._until(f"round {round_} committed", ACT_WITHIN_S, lambda: self._version >= round_)
        self.recovery_s = time.monotonic() - killed
        self._display.say(f"round {round_} is committed {self.recovery_s:.2f} s after the kill: nothing is lost")
        for node in self._cluster.nodes:
            if node is not victim:
                log = node.log.read_text(errors="replace")
                if log.count(f"training for round {round_}\n") > 1:
                    raise OperatorError(f"{node.name} trained twice for round {round_}: its update was not kept")

    def _restart(self, victim: NodeProcess) -> None:
        victim.start()
        self.timeline.add(time.time(), victim.name, "follower", f"{victim.name} is restarted")
        self._display.say(f"{victim.name} is started again")

        def caught_up() -> bool:
            newest = self._newest_model()
            state = self._states.get(victim.name)
            return newest is not None and newest.updates == len(self._cluster.nodes) and state is not None

        self._until(f"{victim.name} taking part again", ACT_WITHIN_S, caught_up)
        self._display.say(f"{victim.name} has caught up and takes part")

    def _resign(self) -> None:
        """Ask the leader to hand over, as an operator would; another must lead."""
        before = self._until("a leader", ACT_WITHIN_S, self._agreed_leader)
        NodeApi(self._cluster[before].config.operator).resign()
        self._display.say(f"{before} is asked to resign")

        def successor() -> NodeName | None:
            leader = self._agreed_leader()
            return leader if leader != before else None

        after = self._until("another leader", ACT_WITHIN_S, successor)
        self._display.say(f"{after} leads now")

    def is_over(self) -> bool:
        """Return whether every node, as last seen, has all rounds, and one of them is complete."""
        return all_have(self._rounds, self._states.values()) and self.table_round() is not None

    def table_round(self) -> Round | None:
        """Return the newest committed round of which every node's own update was seen: Table I is about it."""
        newest = self._newest_model()
        complete = [
            round_
            for round_, updates in self.updates.items()
            if len(updates) == len(self._cluster.nodes) and newest is not None and round_ <= newest.round
        ]
        return max(complete, default=None)

    def _check_lineages(self) -> None:
        """All nodes must have the same lineage, as far as each knows it."""
        lineages = {node.name: node.lineage() for node in self._cluster.nodes}
        shortest = min(len(lineage) for lineage in lineages.values())
        self.lineage = min(lineages.values(), key=len)
        for name, lineage in lineages.items():
            if lineage[:shortest] != self.lineage:
                raise OperatorError(f"the lineage of {name} is another one than the others'")
        if shortest <= self._rounds:
            raise OperatorError(f"a node knows only {shortest - 1} of {self._rounds} rounds")
        for node in self._cluster.nodes:
            self._collect_elections(node)

    def _stop(self) -> None:
        codes = self._cluster.stop()
        wrong = {name: code for name, code in codes.items() if code != 0}
        if wrong:
            raise OperatorError(f"these nodes did not end cleanly: {wrong}")
        self._display.say("all nodes have stopped")

    # --- watching ----------------------------------------------------------------------------------------------------

    def _until(self, what: str, seconds: float, condition: Callable[[], T | None]) -> T:
        """Poll all nodes until the condition holds; return what it found."""

        def polled() -> T | None:
            self.poll()
            return condition()

        return until(polled, what, seconds, POLL_S)

    def poll(self) -> None:
        """Look at all nodes once; show them, and what is new."""
        nodes = self._cluster.nodes
        seen = self._pool.map(lambda node: node.status(), nodes)
        self._states = dict(zip((node.name for node in nodes), seen, strict=True))
        for name, state in self._states.items():
            if state is not None and state.update is not None:
                self.updates[state.update.round][name] = state.update
        self._display.show(self._states)
        newest = self._newest_model()
        if newest is not None and newest.version > self._version:
            self._version = newest.version
            self._display.say(
                f"version {newest.version} is committed: accuracy {newest.accuracy:.2%}, "
                f"{newest.updates} of {newest.expected} updates"
            )

    def _newest_model(self) -> GlobalModel | None:
        """Return the newest committed model that any node shows."""
        versions = {
            state.model.version: name for name, state in self._states.items() if state is not None and state.model
        }
        if not versions:
            return None
        if max(versions) == self._version and self.lineage:
            return self.lineage[-1]
        try:
            self.lineage = self._cluster[versions[max(versions)]].lineage()
        except OperatorError:
            return None  # it died just now
        return self.lineage[-1]

    def _agreed_leader(self) -> NodeName | None:
        """Return the leader that all running nodes follow; None while they don't agree."""
        leaders = {state.leader for state in self._states.values() if state is not None}
        running = {node.name for node in self._cluster.nodes if node.is_running}
        answered = {name for name, state in self._states.items() if state is not None}
        if len(leaders) != 1 or answered != running:
            return None
        leader = leaders.pop()
        return leader if leader in running else None

    def _collect_elections(self, node: NodeProcess) -> None:
        self.timeline.add_elections(node.name, elections(node))

    def close(self) -> None:
        """End the polling threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
