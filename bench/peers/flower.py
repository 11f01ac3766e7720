"""Flower's deployment engine: a SuperLink and five SuperNodes, which start a ServerApp and ClientApps as processes."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from appliance.words.errors import OperatorError
from bench.peers import foreign
from bench.peers.contender import PARTICIPANTS, Job, Model
from bench.peers.environments import Environment
from bench.peers.programs import Programs

VERSION = "1.41.0"
ENVIRONMENT = Environment("flower", (f"flwr=={VERSION}", "numpy"), "import flwr.serverapp")
SUPERLINK = "superlink"
SUPERNODES_READY_S = 12.0
"""There is no word of it that says that all have come; a run waits for them anyway."""
SUPERLINK_WITHIN_S = 60.0

PYPROJECT = """
[project]
name = "peers"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "bench"

[tool.flwr.app.components]
serverapp = "flower_app.server:app"
clientapp = "flower_app.client:app"

[tool.flwr.app.config]
rounds = {rounds}
"""
CONNECTION = """
[superlink]
default = "bench"

[superlink.bench]
address = "127.0.0.1:8000"
insecure = true
"""


class Flower:
    """Flower as its documentation deploys it, without TLS."""

    key = "flower"
    title = f"Flower {VERSION}, SuperLink and SuperNodes"
    can_be_killed = True
    patience_s = 60.0

    def prepare(self) -> None:
        """Install it."""
        ENVIRONMENT.make()

    @contextmanager
    def running(self, job: Job) -> Iterator["FlowerTeam"]:
        """Start all, and submit the run."""
        programs = Programs(job)
        try:
            team = FlowerTeam(programs, job)
            team.start()
            yield team
        finally:
            programs.end()


class FlowerTeam:
    """A SuperLink, five SuperNodes and their children."""

    def __init__(self, programs: Programs, job: Job) -> None:
        self._programs = programs
        self._job = job
        self._home = {"FLWR_HOME": str(job.folder / "home")}

    def start(self) -> None:
        """Start the SuperLink and the SuperNodes, and submit the app."""
        home, app = self._job.folder / "home", self._job.folder / "app"
        home.mkdir()
        (home / "config.toml").write_text(CONNECTION)
        shutil.copytree(Path(foreign.__file__).parent / "flower_app", app / "flower_app")
        (app / "pyproject.toml").write_text(PYPROJECT.format(rounds=self._job.rounds))
        self._start_superlink()
        for number in range(PARTICIPANTS):
            self._programs.start(
                f"supernode{number}",
                ENVIRONMENT.program("flower-supernode"),
                *("--insecure", "--superlink", "127.0.0.1:8000", "--port", str(9100 + number)),
                *("--node-config", f"partition-id={number}"),
                **self._environment(),
            )
        self._submit(app)

    def models(self) -> Sequence[Model]:
        """Return what the ServerApp told."""
        return self._programs.models()

    def trouble(self) -> str:
        """Return what ended."""
        return self._programs.trouble()

    def kill_aggregator(self) -> str:
        """Kill the SuperLink."""
        self._programs.kill(SUPERLINK)
        return "the SuperLink"

    def left(self) -> str:
        """Return what runs."""
        nodes = [name for name in self._programs.alive() if name.startswith("supernode")]
        return f"{len(nodes)} of {PARTICIPANTS} SuperNodes run"

    def revive(self) -> str:
        """Start the SuperLink again."""
        self._start_superlink()
        return "the SuperLink started again"

    def _start_superlink(self) -> None:
        command = (ENVIRONMENT.program("flower-superlink"), "--insecure", "--disable-runtime-dependency-installation")
        self._programs.start(SUPERLINK, *command, **self._environment())

    def _submit(self, app: Path) -> None:
        """Submit the app, as often as needed until the SuperLink listens."""
        end = time.monotonic() + SUPERLINK_WITHIN_S
        time.sleep(SUPERNODES_READY_S)
        while time.monotonic() < end:
            self._programs.finish("run", ENVIRONMENT.program("flwr"), "run", str(app), "bench", **self._environment())
            if not self._programs.trouble():
                return
            time.sleep(1.0)
        raise OperatorError(f"the SuperLink takes no run:\n{self._programs.trouble()}")

    def _environment(self) -> dict[str, str]:
        # The SuperLink starts flower-superexec and others by name.
        return {**self._home, "PATH": f"{ENVIRONMENT.folder}/bin:/usr/bin:/bin"}
