"""Virtual environments for libraries that are no dependency of ours, kept in ``.bench/``, which git ignores."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from appliance.words.errors import OperatorError

REPOSITORY = Path(__file__).parents[2]
CACHE = REPOSITORY / ".bench"
TORCH = "torch==2.13.0"
"""The same for all, and ours. It is installed first: nothing else then brings another build of it."""
_WITHIN_S = 1800.0
_LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment, made once and used again as long as it is asked for the same.

    Attributes:
        name: of its folder.
        requirements: for pip, beside PyTorch.
        check: Python code that must run afterwards.
    """

    name: str
    requirements: tuple[str, ...]
    check: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return CACHE / self.name

    def program(self, name: str) -> str:
        """Return the path of a program in it."""
        return str(self.folder / "bin" / name)

    def make(self) -> None:
        """Make it unless it is there. Raises OperatorError with the end of pip's words if that fails."""
        asked = "\n".join((TORCH, *self.requirements, sys.version))
        mark = self.folder / ".made-for"
        if mark.is_file() and mark.read_text() == asked:
            return
        CACHE.mkdir(exist_ok=True)
        print(f"{self.name}: making {self.folder}; this takes some minutes", file=sys.stderr, flush=True)
        self._run(sys.executable, "-m", "venv", "--clear", str(self.folder))
        install = (self.program("python"), "-m", "pip", "install", "--quiet")
        self._run(*install, TORCH)
        self._run(*install, TORCH, *self.requirements)
        self._run(self.program("python"), "-c", self.check)
        mark.write_text(asked)

    def _run(self, *command: str) -> None:
        try:
            ended = subprocess.run(
                command,
                check=False,
                cwd=CACHE,  # p2pfl makes a folder for its log where it is imported
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_WITHIN_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OperatorError(f"the environment {self.folder} can't be made: {error}") from None
        if ended.returncode != 0:
            end = "\n".join((ended.stdout + ended.stderr).strip().splitlines()[-_LAST_LINES:])
            raise OperatorError(f"the environment {self.folder} can't be made: {' '.join(command)} says\n{end}")
