"""Node processes on this machine: started, watched through their operator API, killed, ended."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec

from appliance.node.config import Config, load
from appliance.operator_api.client import NodeApi
from appliance.operator_api.views import Status
from appliance.words.errors import OperatorError
from appliance.words.ids import NodeName
from appliance.words.models import GlobalModel

END_WITHIN_S = 10.0


@dataclass(slots=True)
class NodeProcess:
    """One node of a cluster in a folder, running or not; what it logs goes to ``node.log`` beside its configuration."""

    file: Path
    config: Config
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def of(cls, file: Path) -> Self:
        """Return the node of a configuration file, not started."""
        return cls(file, load(file))

    @property
    def name(self) -> NodeName:
        """The node's name."""
        return self.config.node

    @property
    def log(self) -> Path:
        """Where the node's log is."""
        return self.file.with_name("node.log")

    @property
    def is_running(self) -> bool:
        """Tell whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process, in a session of its own so that a Ctrl-C at the terminal does not reach it."""
        command = [sys.executable, "-m", "appliance.cli.main", "run", "--config", str(self.file)]
        with self.log.open("ab") as log, _held_signals():
            self.process = subprocess.Popen(  # noqa: S603 - our own program
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """End the process with SIGKILL: it gets no chance to say goodbye."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def status(self) -> Status | None:
        """Return the node's status; None if it does not answer."""
        if not self.is_running:
            return None
        with contextlib.suppress(OperatorError):
            return NodeApi(self.config.operator).status()
        return None

    def lineage(self) -> list[GlobalModel]:
        """Return the committed models as this node knows them. Raises OperatorError if it does not answer."""
        return msgspec.json.decode(NodeApi(self.config.operator).get("/v1/lineage"), type=list[GlobalModel])

    def last_lines(self, count: int) -> str:
        """Return the end of the node's log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


@contextlib.contextmanager
def _held_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for a moment: a process must not run before this one knows that it does."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for held in came:
            signal.raise_signal(held)


@dataclass(slots=True)
class Cluster:
    """All nodes of a cluster on this machine. ``running`` starts them, and leaves none behind."""

    nodes: list[NodeProcess] = field(default_factory=list)

    @classmethod
    @contextlib.contextmanager
    def running(cls, files: Sequence[Path]) -> Iterator[Self]:
        """Start a node for each configuration file; kill what still runs when the context ends, however it ends."""
        cluster = cls([NodeProcess.of(file) for file in files])
        try:
            for node in cluster.nodes:
                node.start()
            yield cluster
        finally:
            for node in cluster.nodes:
                node.kill()

    def __getitem__(self, name: NodeName) -> NodeProcess:
        return next(node for node in self.nodes if node.name == name)

    def stop(self) -> dict[NodeName, int | None]:
        """Ask every node to end (SIGTERM), and return the exit codes; None for one that did not end in ten seconds."""
        for node in self.nodes:
            if node.process is not None and node.is_running:
                node.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + END_WITHIN_S
        codes: dict[NodeName, int | None] = {}
        for node in self.nodes:
            if node.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    node.process.wait(max(0.0, end - time.monotonic()))
                codes[node.name] = node.process.returncode
        return codes
