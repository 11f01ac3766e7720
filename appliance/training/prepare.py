"""Cut this node's shard out of a data set, once, into a file: ``python -m appliance.training.prepare JSON FILE``.

A process of its own, so that the memory of torchvision and of the whole data set is gone when it ends; the daemon then
reads the file only. JSON is the ``data`` section of the settings. On a mistake of the operator's: exit status 1 and
one sentence on standard error.
"""

import sys
from pathlib import Path

import msgspec
import numpy as np

from appliance.storage.files import write_atomically
from appliance.training.datasets import select
from appliance.training.examples import Examples, encode
from appliance.training.vision import import_torchvision
from appliance.words.errors import OperatorError
from appliance.words.settings import Data


def main() -> int:
    """Do what the command line says and return the exit status."""
    settings, target = sys.argv[1:]
    try:
        prepare(msgspec.json.decode(settings, type=Data, dec_hook=lambda kind, value: kind(value)), Path(target))
    except OperatorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def prepare(data: Data, target: Path) -> None:
    """Write the shard that ``data`` speaks of, atomically. Raises OperatorError."""
    training, held_out = (_read_mnist(data.path, train=train) for train in (True, False))
    # The test set's first half is the easier one; in random order any first part of it is a fair sample.
    held_out = held_out.take(np.random.default_rng(data.seed).permutation(len(held_out)))
    write_atomically(target, encode(select(training, data), held_out))


def _read_mnist(path: Path | None, *, train: bool) -> Examples:
    datasets = import_torchvision().datasets
    try:
        mnist = datasets.MNIST(path, train=train, download=False)
        return Examples(mnist.data.numpy(), mnist.targets.numpy().astype(np.uint8))
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise OperatorError(f"data.path: {path} holds no MNIST that can be read: {first_line}") from None


if __name__ == "__main__":
    sys.exit(main())
