"""The floor: the same shards trained bare, in two processes. No network, no sealing, nothing durable."""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from bench import alone
from bench.peers.contender import PARTICIPANTS, Job, Model
from bench.peers.environments import REPOSITORY
from bench.peers.foreign.bare_worker import read, save
from bench.peers.foreign.task import mean

WORKERS = 2


class Floor:
    """Bare PyTorch."""

    key = "floor"
    title = f"bare PyTorch, {WORKERS} processes"
    can_be_killed = False
    patience_s = 0.0

    def prepare(self) -> None:
        """Nothing: it needs what the product needs."""

    @contextmanager
    def running(self, job: Job) -> Iterator["FloorTeam"]:
        """Start the workers and train."""
        with alone.nothing_left():
            workers = [Worker(job) for _ in range(WORKERS)]
            team = FloorTeam(job, workers)
            team.start()
            yield team


class Worker:
    """A process that trains what it is told to."""

    def __init__(self, job: Job) -> None:
        command = [sys.executable, "-m", "bench.peers.foreign.bare_worker", str(job.folder)]
        environment = {"PYTHONPATH": str(REPOSITORY), "P2PFL_BENCH_SHARDS": str(job.shards), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.read()

    def ask(self, order: dict[str, object]) -> Any:
        """Give an order; return the answer to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self.read()

    def read(self) -> Any:
        """Return the next answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with {self._process.wait()}")
        return json.loads(line)


class FloorTeam:
    """Trains round after round. Its clock stands still while the mean is made and judged: that is no training."""

    def __init__(self, job: Job, workers: Sequence[Worker]) -> None:
        self._job = job
        self._workers = workers
        self._models: list[Model] = []
        self._trouble = ""

    def start(self) -> None:
        """Train in the background."""
        threading.Thread(target=self._train, name="floor", daemon=True).start()

    def models(self) -> Sequence[Model]:
        """Return the means so far."""
        return list(self._models)

    def trouble(self) -> str:
        """Return what went wrong."""
        return self._trouble

    def kill_aggregator(self) -> str:
        """There is none."""
        raise NotImplementedError

    left = revive = kill_aggregator

    def _train(self) -> None:
        try:
            folder = self._job.folder
            (folder / "fresh.npz").rename(folder / "base.npz")
            clock = 0.0
            self._models.append(Model(0, clock, self._judge()))
            for number in range(1, self._job.rounds + 1):
                clock += self._round(number)
                save(folder / "base.npz", mean([read(folder / f"{shard}.npz") for shard in range(PARTICIPANTS)]))
                self._models.append(Model(number, clock, self._judge()))
        except Exception as error:
            self._trouble = str(error)

    def _round(self, number: int) -> float:
        """Train each shard once; return the seconds that it took."""
        shards: queue.SimpleQueue[int] = queue.SimpleQueue()
        for shard in range(PARTICIPANTS):
            shards.put(shard)

        def work(worker: Worker) -> None:
            while True:
                try:
                    shard = shards.get_nowait()
                except queue.Empty:
                    return
                worker.ask({"shard": shard, "round": number})

        began = time.perf_counter()
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(work, self._workers))
        return time.perf_counter() - began

    def _judge(self) -> float:
        return float(self._workers[0].ask({"judge": True})["accuracy"])
