"""One PySyncObj node that ``bench.commit`` compares with; runs in an interpreter of its own that has PySyncObj.

    python bench/pysyncobj_node.py SETTINGS

SETTINGS is JSON: ``me`` and ``others`` (host:port), ``journal`` (a file), ``batch`` (appendEntriesUseBatch), ``bytes``
(of an entry). Commands come as lines on standard input, answers go as JSON lines to standard output
(``bench.commit_node`` speaks the same). Needs PySyncObj and the standard library, nothing of ours.
"""

import json
import sys
import threading
import time

from pysyncobj import FAIL_REASON, SyncObj, SyncObjConf, replicated

NEVER = 10**9


class Entries(SyncObj):  # type: ignore[misc]  # PySyncObj has no annotations
    """A replicated object that does nothing with its entries."""

    @replicated  # type: ignore[untyped-decorator]  # PySyncObj has no annotations
    def note(self, data: bytes) -> None:
        """Take an entry."""


class Load:
    """Entries put into the leader of the cluster, in the leader's own process."""

    def __init__(self, entries: Entries, data: bytes) -> None:
        self._entries = entries
        self._data = data
        self._failed: int | None = None

    def latencies(self, count: int) -> list[float]:
        """Commit one entry after the other; return the seconds of each."""
        return [self._run(1, 1) for _ in range(count)]

    def throughput(self, count: int, in_flight: int) -> float:
        """Commit many entries, so many of them at a time; return the seconds for all."""
        return self._run(count, in_flight)

    def _run(self, count: int, in_flight: int) -> float:
        room = threading.Semaphore(in_flight)

        def committed(_: object, error: int) -> None:
            if error != FAIL_REASON.SUCCESS:
                self._failed = error
            room.release()

        began = time.perf_counter()
        for _ in range(count):
            room.acquire()
            self._entries.note(self._data, callback=committed)
        for _ in range(in_flight):
            room.acquire()
        if self._failed is not None:
            raise SystemExit(f"PySyncObj did not commit an entry (FAIL_REASON {self._failed})")
        return time.perf_counter() - began


def main() -> None:
    """Run the node until standard input ends."""
    settings = json.loads(sys.argv[1])
    entries = Entries(
        settings["me"],
        settings["others"],
        SyncObjConf(
            journalFile=settings["journal"],
            appendEntriesUseBatch=settings["batch"],
            # The whole log is kept, as the lengths to be compared are those of logs.
            logCompactionMinEntries=NEVER,
            logCompactionMinTime=NEVER,
        ),
    )
    load = Load(entries, b"." * settings["bytes"])
    for line in sys.stdin:
        command, *numbers = line.split()
        answer: object
        match command:
            case "leads":
                status = entries.getStatus()
                answer = status["leader"] == status["self"] and status["commit_idx"] == status["log_len"]
            case "length":
                answer = entries.getStatus()["log_len"]
            case "latencies":
                answer = load.latencies(int(numbers[0]))
            case "throughput":
                answer = load.throughput(int(numbers[0]), int(numbers[1]))
            case _:
                raise SystemExit(f"no such command: {command}")
        print(json.dumps(answer), flush=True)
    entries.destroy()


if __name__ == "__main__":
    main()
