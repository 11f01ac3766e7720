"""Real processes of the replicated register, behind a network that can be harmed."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from appliance.words.ids import NodeName
from appliance.words.settings import Cluster, Consensus, Member
from tests.linearizability.register_node import HOST, Answer, Question, Settings
from tests.process.cluster import PORTS_PER_NODE, free_base_port
from tests.process.udp_proxy import Quality, UdpProxy
from tests.process.waiting import until

UP_WITHIN_S = 30.0
COMPACT_AFTER = 100


class NoAnswerError(Exception):
    """A node did not answer, in time or at all; what became of the question is not known."""


class Connection:
    """A client's connection to one node; a context manager. Of no use any more after a NoAnswerError.

    Args:
        timeout_s: for whatever is done first.
    """

    def __init__(self, port: int, timeout_s: float) -> None:
        try:
            self._socket = socket.create_connection((HOST, port), timeout_s)
        except OSError as error:
            raise NoAnswerError(str(error)) from error
        self._file = self._socket.makefile("rb")

    def wait_at_most(self, timeout_s: float) -> None:
        """Set how long to wait for answers from now on."""
        self._socket.settimeout(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def send(self, question: Question) -> None:
        """Ask, and wait for no answer."""
        try:
            self._socket.sendall(msgspec.json.encode(question) + b"\n")
        except OSError as error:
            raise NoAnswerError(str(error)) from error

    def ask(self, question: Question) -> Answer:
        """Ask, and return the answer."""
        self.send(question)
        try:
            line = self._file.readline()
        except OSError as error:
            raise NoAnswerError(str(error)) from error
        if not line.endswith(b"\n"):
            raise NoAnswerError("the node ended")
        return msgspec.json.decode(line, type=Answer)


class RegisterCluster:
    """Nodes named node0 and so on; a context manager that leaves no process behind."""

    def __init__(self, folder: Path, nodes: int, *, seed: int, quality: Quality) -> None:
        self.folder = folder
        base = free_base_port(nodes)
        members = {
            f"node{number}": Member(HOST, consensus_port=base + PORTS_PER_NODE * number + 1) for number in range(nodes)
        }
        self._cluster = Cluster("registers", members)
        self.names = sorted(members)
        self.ports: Mapping[NodeName, int] = {name: member.consensus_port + 1 for name, member in members.items()}
        self.network = UdpProxy({name: m.consensus_port for name, m in members.items()}, seed=seed, quality=quality)
        self._processes: dict[NodeName, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.network)
            stack.callback(self._end)
            for name in self.names:
                self.start(name)
            for name in self.names:
                until(lambda name=name: self.status(name), f"{name} answers", within_s=UP_WITHIN_S)  # type: ignore[misc]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _end(self) -> None:
        for name in self._processes:
            self.resume(name)
            self.kill(name)

    # --- the nodes' lives ---------------------------------------------------------------------------------------------

    def start(self, name: NodeName) -> None:
        """Start a node that does not run; does not wait for it."""
        settings = Settings(
            me=name,
            cluster=self.network.seen_by(name, self._cluster),
            consensus=Consensus(),
            folder=str(self.folder / name),
            ports=dict(self.ports),
            compact_after=COMPACT_AFTER,
        )
        command = [sys.executable, "-m", "tests.linearizability.register_node", msgspec.json.encode(settings).decode()]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self, name: NodeName) -> None:
        """SIGKILL, and wait until it is gone."""
        self._processes[name].kill()
        self._processes[name].wait()

    def pause(self, name: NodeName) -> None:
        """SIGSTOP."""
        os.kill(self._processes[name].pid, signal.SIGSTOP)

    def resume(self, name: NodeName) -> None:
        """SIGCONT, if it lives."""
        if self._processes[name].poll() is None:
            os.kill(self._processes[name].pid, signal.SIGCONT)

    @property
    def ended(self) -> list[NodeName]:
        """Nodes that do not run."""
        return [name for name, process in self._processes.items() if process.poll() is not None]

    def logs(self) -> str:
        """Return what the nodes said: nothing, if all is well."""
        return "".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))

    # --- what they tell -----------------------------------------------------------------------------------------------

    def ask(self, name: NodeName, question: Question, timeout_s: float = 5.0) -> Answer | None:
        """Return a node's answer; None if there is none."""
        with contextlib.suppress(NoAnswerError), Connection(self.ports[name], timeout_s) as connection:
            return connection.ask(question)
        return None

    def status(self, name: NodeName) -> Answer | None:
        """Return a node's status; None if it does not answer at once."""
        return self.ask(name, Question("status"), 0.2)

    def leader(self) -> NodeName | None:
        """Return a node that leads and has committed an entry of its term; the one of the latest term of several."""
        answers = {name: self.status(name) for name in self.names}
        settled = [(answer.term, name) for name, answer in answers.items() if answer is not None and answer.settled]
        return max(settled)[1] if settled else None

    def wait_leader(self, *, other_than: NodeName | None = None) -> NodeName:
        """Wait for a leader, another than the given node."""

        def found() -> NodeName | None:
            leader = self.leader()
            return leader if leader != other_than else None

        leader = until(found, "a leader", within_s=UP_WITHIN_S)
        assert leader is not None
        return leader
