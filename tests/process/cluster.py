"""Clusters of real node processes on loopback: made, started, harmed, watched and always ended by the test."""

import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from appliance.node import template
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.node.config import load
from appliance.operator_api.client import NodeApi
from appliance.operator_api.views import Status
from appliance.words.errors import OperatorError
from appliance.words.ids import NodeName
from appliance.words.models import GlobalModel
from appliance.words.settings import Consensus, Delivery, Envelopes, Rounds, Training
from tests.process.waiting import until

UP_WITHIN_S = 60.0
COMMIT_WITHIN_S = 60.0
EXIT_WITHIN_S = 10.0
"""What issue 2 promises for SIGTERM."""
PORTS_PER_NODE = 10
TIME_LENGTH = len("2026-01-01 00:00:00,000")

QUICK_ROUNDS = Rounds(interval_s=0.2, deadline_s=20.0)
CALM = Consensus(heartbeat_interval_s=0.1, election_timeout_s=1.0)
"""Elections that a loaded machine with two cores does not start by itself."""
QUICK_DELIVERY = Delivery(window_s=0.1)
SMALL_KEYS = Envelopes(rsa_bits=2048, pool=4)


def cli(*arguments: str | Path) -> list[str]:
    """Return the command line of ``p2pfl-node`` with these arguments."""
    return [sys.executable, "-m", "appliance.cli.main", *map(str, arguments)]


def free_base_port(nodes: int) -> int:
    """Return a base port whose ports, for as many nodes, are free on loopback for TCP and UDP.

    Below the range from which the system itself gives out ports, so that no client connection takes one meanwhile.
    """
    picker = random.SystemRandom()
    for _ in range(200):
        base = picker.randrange(15_000, 32_000 - PORTS_PER_NODE * nodes)
        ports = [base + PORTS_PER_NODE * node + offset for node in range(nodes) for offset in range(3)]
        if all(_is_free(port, kind) for port in ports for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
            return base
    raise AssertionError("no free ports on loopback")


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class NodeProcess:
    """One node: its folder, and the process that runs it, if one does."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.config = load(file)
        self.name: NodeName = self.config.node
        self.folder = file.parent
        self.log_file = self.folder / "node.log"
        self.module = "appliance.cli.main"
        self.process: subprocess.Popen[bytes] | None = None
        self._is_paused = False
        self._logger: threading.Thread | None = None

    @property
    def api(self) -> NodeApi:
        return NodeApi(self.config.operator)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def change(self, **sections: object) -> None:
        """Write the configuration anew with other values."""
        self.config = msgspec.structs.replace(self.config, **sections)
        self.file.write_text(template.render(self.config))
        assert load(self.file) == self.config

    def slow_down(self, epochs: int) -> None:
        """Let this node train for as many epochs."""
        self.change(training=msgspec.structs.replace(self.config.training, epochs=epochs))

    # --- its life ----------------------------------------------------------------------------------------------------

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start ``p2pfl-node run``; what it says goes to the end of the node's log."""
        assert not self.is_running
        self._is_paused = False
        self._end_logging()
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, "run", "--config", str(self.file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
        # Through a pipe: a limit on the size of the node's files must not be one on its log.
        self._logger = threading.Thread(target=self._keep_log, args=(cast(BinaryIO, self.process.stdout),), daemon=True)
        self._logger.start()

    def _keep_log(self, pipe: BinaryIO) -> None:
        with pipe, self.log_file.open("ab", buffering=0) as log:
            while part := os.read(pipe.fileno(), 65536):
                log.write(part)

    def _end_logging(self) -> None:
        """Wait until all that an ended process said is in its log."""
        if self._logger is not None:
            self._logger.join(10)

    def signal(self, number: signal.Signals) -> None:
        if self.is_running:
            os.kill(self.pid, number)
            self._is_paused = number == signal.SIGSTOP or (self._is_paused and number != signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        self._end_logging()

    def wait_exit(self, within_s: float = EXIT_WITHIN_S) -> int:
        """Return the exit status, which must come in time."""
        assert self.process is not None
        status = self.process.wait(within_s)
        self._end_logging()
        return status

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait_exit()

    # --- what it tells -----------------------------------------------------------------------------------------------

    def status(self) -> Status | None:
        """Return the status; None while nothing answers."""
        if self._is_paused:
            return None
        with contextlib.suppress(OperatorError):
            return self.api.status()
        return None

    def lineage(self) -> list[GlobalModel]:
        """Return the lineage; empty while nothing answers."""
        if self._is_paused:
            return []
        with contextlib.suppress(OperatorError):
            return msgspec.json.decode(self.api.get("/v1/lineage"), type=list[GlobalModel])
        return []

    def log(self) -> str:
        """Return all that it ever logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_size(self) -> int:
        return len(self.log())

    def logged_at(self, sentence: str) -> list[datetime]:
        """Return when it logged lines with this sentence."""
        return [datetime.fromisoformat(line[:TIME_LENGTH]) for line in self.log().splitlines() if sentence in line]

    def peer_is(self, peer: NodeName, state: str) -> bool:
        """Tell whether its status shows a peer as up, or as down."""
        status = self.status()
        return status is not None and status.peers.get(peer) == state

    def waits_for(self, who: str, beginning: str) -> bool:
        """Tell whether its status shows such a wait now."""
        status = self.status()
        return status is not None and any(w.who == who and w.reason.startswith(beginning) for w in status.waiting)


def digest(content: bytes) -> str:
    """Return the digest of model bytes, computed here and not by the product."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Cluster:
    """Nodes of one cluster. Whoever makes one closes it."""

    def __init__(self, folder: Path, plan: ClusterPlan) -> None:
        self.folder = folder
        files = create_cluster(folder, plan)
        self.nodes = {node.name: node for node in map(NodeProcess, files)}
        self._seen: dict[int, list[str]] = {}
        self._longest: list[str] = []

    def __getitem__(self, name: NodeName) -> NodeProcess:
        return self.nodes[name]

    @property
    def running(self) -> list[NodeProcess]:
        return [node for node in self.nodes.values() if node.is_running]

    def start(self, *names: NodeName) -> None:
        """Start these nodes, or all, and wait until each answers."""
        chosen = [self.nodes[name] for name in names] or list(self.nodes.values())
        for node in chosen:
            node.start()
        for node in chosen:
            until(lambda node=node: node.status() or not node.is_running, f"{node.name} answers", within_s=UP_WITHIN_S)  # type: ignore[misc]
            assert node.is_running, f"{node.name} ended: {node.log()}"

    def close(self) -> None:
        """Kill what still runs."""
        for node in self.nodes.values():
            node.signal(signal.SIGCONT)
            node.kill()

    # --- conditions --------------------------------------------------------------------------------------------------

    def leader(self, among: Iterable[NodeProcess] | None = None) -> NodeProcess | None:
        """Return the node that leads, once it says so itself and all others of these agree; else None."""
        statuses = [node.status() for node in (self.running if among is None else among)]
        named = {status.leader if status else None for status in statuses}
        terms = {status.term if status else None for status in statuses}
        name = named.pop() if len(named) == 1 and len(terms) == 1 else None
        return self.nodes[name] if name is not None and self.nodes[name].is_running else None

    def wait_leader(
        self, among: Iterable[NodeProcess] | None = None, *, other_than: NodeProcess | None = None
    ) -> NodeProcess:
        """Wait until these nodes agree on a leader, another than the given one."""
        nodes = None if among is None else list(among)

        def found() -> NodeProcess | None:
            leader = self.leader(nodes)
            return leader if leader is not other_than else None

        leader = until(found, "one leader for all", within_s=UP_WITHIN_S)
        assert leader is not None
        return leader

    def wait_version(self, version: int, among: Iterable[NodeProcess] | None = None) -> None:
        """Wait until each of these nodes knows a global model of this version; lineages are checked all along."""
        nodes = self.running if among is None else list(among)

        def reached() -> bool:
            self.check_lineages()
            return all(len(node.lineage()) > version for node in nodes)

        until(reached, f"version {version} on {[node.name for node in nodes]}", within_s=COMMIT_WITHIN_S)

    def newest_version(self, among: Iterable[NodeProcess] | None = None) -> int:
        """Return the highest version that any of these nodes, or any running one, knows."""
        nodes = self.running if among is None else among
        return max((len(node.lineage()) for node in nodes), default=0) - 1

    def check_lineages(self) -> None:
        """Invariant 2: no lineage of a process ever goes back, and no two nodes' ever differ where both have one."""
        for node in self.running:
            lineage = [model.digest for model in node.lineage()]
            if not lineage:  # it is just starting, or stopped: nothing answered
                continue
            assert lineage[: len(self._longest)] == self._longest[: len(lineage)], f"{node.name}'s lineage forks"
            before = self._seen.get(node.pid, [])
            assert lineage[: len(before)] == before, f"{node.name}'s lineage went back"
            self._seen[node.pid] = lineage
            if len(lineage) > len(self._longest):
                self._longest = lineage

    def check_rounds(self, lineage: list[GlobalModel]) -> None:
        """Each round once, each on the model before it."""
        assert [model.version for model in lineage] == list(range(len(lineage)))
        assert [model.round for model in lineage] == list(range(len(lineage)))
        assert [model.base for model in lineage] == [None, *(model.digest for model in lineage[:-1])]

    def logs(self, characters: int = 4000) -> Iterable[tuple[str, str]]:
        """Return the last of each node's log."""
        for node in self.nodes.values():
            state = "running" if node.is_running else f"ended with {node.process.poll()}" if node.process else "not run"
            yield f"{node.name} ({state})", node.log()[-characters:]


def plan(
    nodes: int,
    *,
    rounds: Rounds = QUICK_ROUNDS,
    consensus: Consensus = CALM,
    training: Training | None = None,
    envelopes: Envelopes = SMALL_KEYS,
    delivery: Delivery = QUICK_DELIVERY,
) -> ClusterPlan:
    """Return the plan of a small, quick cluster on free ports."""
    return ClusterPlan(
        nodes=nodes,
        base_port=free_base_port(nodes),
        rounds=rounds,
        consensus=consensus,
        training=training or Training(),
        envelopes=envelopes,
        delivery=delivery,
    )
