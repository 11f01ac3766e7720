"""A world of simulated nodes: one virtual clock, one seeded scheduler, disks that survive, memory that does not."""

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from appliance.words.ids import Monotonic, NodeName, Round
from appliance.words.models import Encoding

Event = Callable[[], None]


@dataclass
class Faults:
    """How bad the network is."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_s: tuple[float, float] = (0.001, 0.01)


@dataclass(frozen=True)
class Delivered:
    """An envelope that came to a leader: what it sees of it, and whose it is, which it does not.

    Attributes:
        since_s: seconds after it first said that updates may be sent.
    """

    round: Round
    leader: NodeName
    deliverer: NodeName
    author: NodeName
    since_s: float


def uneven_training_s(source: random.Random, node: NodeName) -> float:
    """Return how long a training takes.

    One in eight outlasts the round's deadline, so that rounds close without everybody, and late.
    """
    slow = 8.0 if source.random() < 1 / 8 else 1.0
    return slow * source.uniform(0.2, 3.0)


@dataclass
class World:
    """The clock, the event queue and the network. Nodes are known by name; ``deliver`` reaches their ``receive``.

    ``encodings`` are what the nodes open their rounds with as leaders, by turns.
    """

    seed: int
    names: list[NodeName]
    faults: Faults = field(default_factory=Faults)
    training_s: Callable[[random.Random, NodeName], float] = uneven_training_s
    window_s: float = 0.3
    deadline_s: float = 8.0
    stems: bool = True
    broadcasts: bool = False
    encodings: Sequence[Encoding] = ("float32",)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = Monotonic(1000.0)
        self.trace: list[str] = []
        self.deliveries: list[Delivered] = []
        self.sealed_values: dict[tuple[bytes, Encoding], object] = {}
        """What the values of an update depended on when it was first sealed in an encoding."""
        self._events: list[tuple[float, int, Event]] = []
        self._order = itertools.count()
        self._cut: set[tuple[NodeName, NodeName]] = set()
        self.cut_off_since: dict[NodeName, Monotonic] = {}

    def note(self, text: str) -> None:
        """Add a line to the trace that a failure prints."""
        self.trace.append(f"{self.now - 1000.0:9.3f} {text}")

    def after(self, delay_s: float, event: Event) -> None:
        """Do something later."""
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), event))

    def step(self) -> None:
        """Advance to the next event and do it; where all nodes are down there is none, and time passes all the same."""
        if not self._events:
            self.now = Monotonic(self.now + 1.0)
            return
        at, _, event = heapq.heappop(self._events)
        self.now = Monotonic(max(self.now, at))
        event()

    def send(self, sender: NodeName, to: NodeName, deliver: Event) -> None:
        """Carry a message: it may be lost, doubled, late, or meet a cut link."""
        copies = 2 if self.random.random() < self.faults.duplication else 1
        for _ in range(copies):
            if self.random.random() >= self.faults.loss and not self.is_cut(sender, to):
                self.after(self.random.uniform(*self.faults.delay_s), deliver)

    def is_cut(self, sender: NodeName, to: NodeName) -> bool:
        """Tell whether nothing gets from one to the other."""
        return (sender, to) in self._cut

    def cut(self, minority: list[NodeName]) -> None:
        """Part these nodes from all others, both ways."""
        self.heal()
        others = [name for name in self.names if name not in minority]
        self._cut = {pair for a in minority for b in others for pair in ((a, b), (b, a))}
        side = minority if len(minority) <= len(self.names) // 2 else others
        self.cut_off_since = dict.fromkeys(side, self.now)
        self.note(f"cut {minority}")

    def cut_one_way(self, sender: NodeName, to: NodeName) -> None:
        """Lose all that goes one way between two nodes."""
        self._cut.add((sender, to))
        self.note(f"cut {sender} -> {to}")

    def heal(self) -> None:
        """Mend all links."""
        self._cut = set()
        self.cut_off_since = {}
