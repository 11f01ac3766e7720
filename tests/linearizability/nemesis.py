"""What harms the replicated register: crashes, pauses and cuts, one after the other, in a seeded order."""

import random
import time
from collections import Counter
from collections.abc import Callable

from appliance.words.ids import NodeName
from tests.linearizability.cluster import RegisterCluster

HARM_S = (0.5, 1.6)
"""How long each harm lasts: from about an election timeout to three."""
CALM_S = (0.2, 0.8)

Undo = Callable[[], None]


class Nemesis:
    """Each kind of harm as often as any other.

    Attributes:
        done: how often each was done.
    """

    def __init__(self, cluster: RegisterCluster, *, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._cluster = cluster
        self._chance = random.Random(f"{seed} nemesis")

    def run(self, seconds: float) -> None:
        """Do harm for so long, each kind at least once; in the end all nodes run, and the network is whole."""
        harms = list(HARMS)
        end = time.monotonic() + seconds
        while time.monotonic() < end or self.done.keys() != HARMS.keys():
            self._chance.shuffle(harms)
            for name in harms:
                if time.monotonic() >= end and self.done[name]:
                    continue
                undo = HARMS[name](self)
                try:
                    time.sleep(self._chance.uniform(*HARM_S))
                finally:
                    undo()
                self.done[name] += 1
                time.sleep(self._chance.uniform(*CALM_S))

    def _leader(self) -> NodeName:
        return self._cluster.leader() or self._anyone()

    def _anyone(self) -> NodeName:
        return self._chance.choice(self._cluster.names)

    def _kill(self, *names: NodeName) -> Undo:
        for name in names:
            self._cluster.kill(name)

        def restart() -> None:
            for name in names:
                self._cluster.start(name)

        return restart

    def _pause(self, name: NodeName) -> Undo:
        self._cluster.pause(name)
        return lambda: self._cluster.resume(name)

    def _cut(self, senders: set[NodeName], receivers: set[NodeName]) -> Undo:
        self._cluster.network.cut(senders - receivers, receivers - senders)
        return self._cluster.network.heal

    def _isolate(self, *names: NodeName) -> Undo:
        self._cluster.network.isolate(names)
        return self._cluster.network.heal

    def kill_leader(self) -> Undo:
        """Kill -9."""
        return self._kill(self._leader())

    def kill_two(self) -> Undo:
        """Kill -9 of two at a time: of five, a majority is left."""
        return self._kill(*self._chance.sample(self._cluster.names, 2))

    def pause_leader(self) -> Undo:
        """SIGSTOP: it goes on as if no time had passed."""
        return self._pause(self._leader())

    def pause_one(self) -> Undo:
        """SIGSTOP of whichever."""
        return self._pause(self._anyone())

    def isolate_leader(self) -> Undo:
        """It leads on, for itself, until it notices."""
        return self._isolate(self._leader())

    def isolate_leader_with_another(self) -> Undo:
        """A minority that has a leader."""
        leader = self._leader()
        return self._isolate(leader, self._chance.choice([n for n in self._cluster.names if n != leader]))

    def silence_leader(self) -> Undo:
        """It hears, and is not heard."""
        return self._cut({self._leader()}, set(self._cluster.names))

    def deafen_leader(self) -> Undo:
        """It is heard, and does not hear."""
        return self._cut(set(self._cluster.names), {self._leader()})


HARMS: dict[str, Callable[[Nemesis], Undo]] = {
    "kill leader": Nemesis.kill_leader,
    "kill two": Nemesis.kill_two,
    "pause leader": Nemesis.pause_leader,
    "pause one": Nemesis.pause_one,
    "isolate leader": Nemesis.isolate_leader,
    "isolate leader with another": Nemesis.isolate_leader_with_another,
    "silence leader": Nemesis.silence_leader,
    "deafen leader": Nemesis.deafen_leader,
}
