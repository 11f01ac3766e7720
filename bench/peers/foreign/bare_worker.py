"""Trains shards without any framework: a line of JSON in, ``{"shard": 2, "round": 7}``, a line of JSON out when done.

Weights lie in the folder that is the argument: ``base.npz`` in, ``2.npz`` out. ``{"judge": true}`` judges the base.
"""

import json
import sys
from pathlib import Path

import numpy as np

from bench.peers.foreign.task import SHARDS, Task, Weights


def main() -> None:
    """Work until the input ends."""
    folder = Path(sys.argv[1])
    tasks = [Task(shard, judges=shard == 0) for shard in range(SHARDS)]
    save(folder / "fresh.npz", tasks[0].weights())
    answer({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        base = read(folder / "base.npz")
        if "judge" in order:
            answer({"accuracy": tasks[0].accuracy(base)})
        else:
            save(folder / f"{order['shard']}.npz", tasks[order["shard"]].train(base, order["round"]))
            answer(order)


def answer(content: dict[str, object]) -> None:
    """Say a line."""
    print(json.dumps(content), flush=True)


def save(path: Path, weights: Weights) -> None:
    """Write weights."""
    np.savez(path, *weights)


def read(path: Path) -> Weights:
    """Read weights."""
    with np.load(path) as arrays:
        return [arrays[name] for name in arrays.files]


if __name__ == "__main__":
    main()
