"""Flower as it was until 1.8: ``start_server`` and five times ``start_client``, each one long-lived process."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.peers.contender import PARTICIPANTS, Job, Model
from bench.peers.environments import Environment
from bench.peers.programs import Programs

VERSION = "1.8.0"
ENVIRONMENT = Environment("flower-legacy", (f"flwr=={VERSION}",), "import flwr")
SERVER = "server"
LISTENS_AFTER_S = 4.0
"""Clients that come earlier would try again after seconds."""


class FlowerLegacy:
    """The legacy server, without TLS."""

    key = "flower-legacy"
    title = f"Flower {VERSION}, start_server"
    can_be_killed = True
    patience_s = 60.0

    def prepare(self) -> None:
        """Install it."""
        ENVIRONMENT.make()

    @contextmanager
    def running(self, job: Job) -> Iterator["LegacyTeam"]:
        """Start server and clients."""
        programs = Programs(job)
        try:
            team = LegacyTeam(programs, job.rounds)
            team.start()
            yield team
        finally:
            programs.end()


class LegacyTeam:
    """A server and five clients."""

    def __init__(self, programs: Programs, rounds: int) -> None:
        self._programs = programs
        self._rounds = rounds

    def start(self) -> None:
        """Start all."""
        self._start_server()
        time.sleep(LISTENS_AFTER_S)
        for number in range(PARTICIPANTS):
            self._start(f"client{number}", "legacy_client", str(number))

    def models(self) -> Sequence[Model]:
        """Return what the server told."""
        return self._programs.models()

    def trouble(self) -> str:
        """Return what ended."""
        return self._programs.trouble()

    def kill_aggregator(self) -> str:
        """Kill the server."""
        self._programs.kill(SERVER)
        return "the server"

    def left(self) -> str:
        """Return what runs."""
        clients = [name for name in self._programs.alive() if name.startswith("client")]
        return f"{len(clients)} of {PARTICIPANTS} clients run"

    def revive(self) -> str:
        """Start the server again."""
        self._start_server()
        return "the server started again"

    def _start_server(self) -> None:
        self._start(SERVER, "legacy_server", str(self._rounds))

    def _start(self, name: str, module: str, argument: str) -> None:
        self._programs.start(name, ENVIRONMENT.program("python"), "-m", f"bench.peers.foreign.{module}", argument)
