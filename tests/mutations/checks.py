"""The checks that a mutation has to pass in order to survive, each in a process of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PYTEST = ("pytest", "-q", "-x", "-p", "no:cacheprovider")
_SECONDS_A_SEED = 0.2
_SECONDS_AT_LEAST = 180.0
_MEMORY_KIB = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Caught:
    """How a check failed.

    Attributes:
        by: ``simulator``, or the folder of the tests.
        how: the seed and the broken promise, or the test's name.
    """

    by: str
    how: str


def checks_for(file: str) -> tuple[str, ...]:
    """Return what to run for a broken file, the quickest to the point first."""
    if file.startswith("appliance/consensus/"):
        return ("simulator", "tests/unit/consensus")
    package = file.split("/")[1]
    return ("tests/scenarios", "tests/unit/rounds") if package == "rounds" else (f"tests/unit/{package}",)


class Checks:
    """Runs checks on copies of the code, and ends what it began."""

    def __init__(self, seeds: int) -> None:
        self._seeds = seeds
        self._running: set[int] = set()
        self._stopped = False

    def run(self, check: str, root: Path) -> Caught | None:
        """Run one check on the copy under ``root``; None if it found nothing."""
        if self._stopped:
            return None
        module = ("tests.simulation.consensus.chaos", "--seeds", str(self._seeds))
        command = (sys.executable, "-m", *(module if check == "simulator" else (*PYTEST, check)))
        limit = _SECONDS_AT_LEAST + _SECONDS_A_SEED * self._seeds
        process = subprocess.Popen(
            # What a mutation lets grow without end must not take the machine with it.
            ("/bin/sh", "-c", f'ulimit -v {_MEMORY_KIB}; exec "$@"', "sh", *command),
            cwd=root,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._running.add(process.pid)
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return Caught(check, f"no end within {limit:.0f} s")
        finally:
            _end(process.pid)  # the simulator has processes of its own
            process.wait()
            self._running.discard(process.pid)
        if process.returncode == 0:
            return None
        return Caught(check, _simulated(output) if check == "simulator" else _tested(output))

    def stop(self) -> None:
        """End all that runs, and begin nothing more."""
        self._stopped = True
        for group in list(self._running):
            _end(group)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _simulated(output: str) -> str:
    """Return the seed and the sentence from what the simulator says when it fails."""
    seed = re.search(r"--seed (\d+)\s*$", output)
    sentences = [line for line in output.splitlines() if line and not re.fullmatch(r"\d+ of \d+ seeds hold", line)]
    if seed is None:
        return (sentences or ["it ended"])[-1]
    return f"seed {seed[1]}: {sentences[0]}"


def _tested(output: str) -> str:
    """Return the name of the first test that failed."""
    name = re.search(r"^(?:FAILED|ERROR) \S+?([^/\s]+?)(?: - .*)?$", output, re.MULTILINE)
    return output.strip().splitlines()[-1] if name is None else name[1]
