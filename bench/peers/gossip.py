"""p2pfl, the gossip library: five nodes, each its own process, fully connected. Nobody leads: each node aggregates."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.peers.contender import PARTICIPANTS, Job, Model
from bench.peers.environments import Environment
from bench.peers.programs import Programs

VERSION = "0.4.4"
ENVIRONMENT = Environment(
    "p2pfl",
    # It imports only with its extra and with these. Its extra "torch" would bring PyTorch 2.2, and Lightning.
    (f"p2pfl[dp]=={VERSION}", "pyarrow<16", "huggingface-hub<0.24"),
    # Imported without this, it starts Ray.
    "from p2pfl.settings import Settings; Settings.general.DISABLE_RAY = True; import p2pfl.node",
)
FIRST_PORT = 6660
OBSERVED, VICTIM = 0, 1


class Gossip:
    """p2pfl with the settings of its own examples, its own TLS, and without Ray, which needs more of everything."""

    key = "p2pfl"
    title = f"p2pfl {VERSION}"
    can_be_killed = True
    patience_s = 330.0
    """It waits up to 300 s for the model of a node that is gone."""

    def prepare(self) -> None:
        """Install it."""
        ENVIRONMENT.make()

    @contextmanager
    def running(self, job: Job) -> Iterator["GossipTeam"]:
        """Start five nodes; the first connects the others and begins."""
        programs = Programs(job)
        try:
            for number in range(PARTICIPANTS):
                module = ("-m", "bench.peers.foreign.p2pfl_without_ray")
                arguments = (str(number), str(FIRST_PORT), str(job.rounds))
                programs.start(f"node{number}", ENVIRONMENT.program("python"), *module, *arguments)
            yield GossipTeam(programs)
        finally:
            programs.end()


class GossipTeam:
    """Five nodes, of which the first tells of its models."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs

    def models(self) -> Sequence[Model]:
        """Return what the first node told."""
        return self._programs.models()

    def trouble(self) -> str:
        """Return what ended."""
        return self._programs.trouble()

    def kill_aggregator(self) -> str:
        """Kill a node: each is an aggregator."""
        self._programs.kill(f"node{VICTIM}")
        return "one of the five nodes (each aggregates)"

    def left(self) -> str:
        """Return what runs."""
        return f"{len(self._programs.alive())} of {PARTICIPANTS} nodes run"

    def revive(self) -> str:
        """Nothing: nodes can't join a running training."""
        return ""
