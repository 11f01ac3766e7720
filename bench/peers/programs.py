"""Programs of foreign libraries: started with a log each, watched, killed; and the models that they tell of."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench import alone
from bench.peers.contender import Job, Model
from bench.peers.environments import REPOSITORY

MODELS = "models.jsonl"
"""The file to which ``foreign.task.tell`` appends."""
_LAST_LINES = 15
_QUIET = {
    # One thread for each participant, whatever library counts the cores.
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # No word to anybody outside: there is no outside here, and waiting for it would cost time.
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "PYTHONUNBUFFERED": "1",
}


class Programs:
    """The processes of one run of a foreign library."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._killed: set[str] = set()

    def start(self, name: str, *command: str, **environment: str) -> None:
        """Start a program in the job's folder; what it says goes to a log there."""
        variables = {
            **os.environ,
            **_QUIET,
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(self._job.folder),
            "P2PFL_BENCH_SHARDS": str(self._job.shards),
            "P2PFL_BENCH_MODELS": str(self._job.folder / MODELS),
            **environment,
        }
        with self._log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                command, cwd=self._job.folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._killed.discard(name)

    def finish(self, name: str, *command: str, **environment: str) -> None:
        """Start a program and wait for its end."""
        self.start(name, *command, **environment)
        self._running[name].wait()
        if self._running[name].returncode == 0:
            del self._running[name]

    def kill(self, name: str) -> None:
        """Kill one with -9."""
        self._killed.add(name)
        self._running[name].send_signal(signal.SIGKILL)
        self._running[name].wait()

    def alive(self) -> list[str]:
        """Return the names of those that run."""
        return [name for name, program in self._running.items() if program.poll() is None]

    def trouble(self) -> str:
        """Return which ended with an error that nobody asked for, and its last words."""
        for name, program in self._running.items():
            if name not in self._killed and program.poll() not in (None, 0):
                return f"{name} ended with {program.returncode}:\n{self.last_lines(name)}"
        return ""

    def models(self) -> Sequence[Model]:
        """Return what the programs have told of global models, in its order."""
        with contextlib.suppress(FileNotFoundError):
            told = (self._job.folder / MODELS).read_text()
            return [Model(**json.loads(line)) for line in told.splitlines(keepends=True) if line.endswith("\n")]
        return []

    def last_lines(self, name: str) -> str:
        """Return the end of a program's log."""
        return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-_LAST_LINES:])

    def end(self) -> None:
        """Kill all, and what they have started."""
        alone.kill_others()
        for program in self._running.values():
            program.wait()

    def _log(self, name: str) -> Path:
        return self._job.folder / f"{name}.log"
