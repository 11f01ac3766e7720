"""What a checkpoint costs a training: of the paper's network, on this machine's disk.

    python -m bench.checkpoints [--count 50] [--folder DIR]

One epoch of the embedded digits after the other, a checkpoint after each; a part of the time is the disk's, so CPU time
is given beside it. Medians, as JSON on standard output.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from appliance.storage.checked import Absent
from appliance.storage.checkpoints import Checkpoint, CheckpointHeader, CheckpointStore, TrainingId
from appliance.training import datasets
from appliance.training.checkpoint import TrainingState
from appliance.training.images import AnnTask
from appliance.training.trainer import Trainer
from appliance.words.ids import digest_of
from appliance.words.settings import Data, Training


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the system's temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        figures = measure(Path(folder), arguments.count)
    json.dump(figures, sys.stdout, indent=2)
    sys.stdout.write("\n")


def measure(folder: Path, count: int) -> dict[str, float]:
    """Return medians: milliseconds, and megabytes of 10^6 bytes."""
    store = CheckpointStore(folder / "training")
    trainer = Trainer(Training(epochs=count, batch_size=2000, judged_samples=1), AnnTask(datasets.load(Data(), folder)))
    base = trainer.initial_model()
    training = TrainingId(1, digest_of(base), trainer.origin)
    wall, cpu, size, peak = [], [], 0, 0

    def after_batch(capture: Callable[[], TrainingState]) -> None:
        nonlocal size
        began, began_cpu = time.perf_counter(), time.thread_time()
        state = capture()
        store.put(Checkpoint(CheckpointHeader(training, state.epoch, state.batches), state.tensors))
        wall.append(time.perf_counter() - began)
        cpu.append(time.thread_time() - began_cpu)
        size = len(state.tensors)

    trainer.train(base, round=1, stop=threading.Event(), checkpoint=after_batch)

    def once_traced(capture: Callable[[], TrainingState]) -> None:
        nonlocal peak
        if not peak:
            tracemalloc.start()
            after_batch(capture)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()

    trainer.train(base, round=1, stop=threading.Event(), checkpoint=once_traced)
    began = time.perf_counter()
    found = store.get()
    assert not isinstance(found, Absent)
    return {
        "checkpoints": count,
        "milliseconds": round(1000 * statistics.median(wall), 1),
        "milliseconds_of_cpu": round(1000 * statistics.median(cpu), 1),
        "slowest_milliseconds": round(1000 * max(wall), 1),
        "megabytes_on_disk": round(size / 1e6, 2),
        "megabytes_of_memory_meanwhile": round(peak / 1e6, 2),
        "milliseconds_to_read_and_check": round(1000 * (time.perf_counter() - began), 1),
    }


if __name__ == "__main__":
    main()
