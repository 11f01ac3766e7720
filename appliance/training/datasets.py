"""A node's shard, from its settings: the digits that ship with the package, or MNIST from a folder."""

import contextlib
import hashlib
import subprocess
import sys
from pathlib import Path

import msgspec

from appliance.storage.files import remove_durably, state_error
from appliance.training import examples
from appliance.training.examples import Examples, Shard
from appliance.training.shards import partition
from appliance.words.errors import OperatorError
from appliance.words.settings import Data

_DIGITS = Path(__file__).parent / "digits" / "digits.safetensors"
_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_PREPARE_TIMEOUT_S = 300.0
"""Reading MNIST takes about three seconds; a network file system may take a while longer."""


def load(data: Data, cache: Path) -> Shard:
    """Return this node's shard.

    Args:
        data: the same on every node, ``shard`` apart, or else the shards are not disjoint.
        cache: a folder for what a first start prepares and later ones read; made if it is not there.

    Raises:
        OperatorError: naming the key of the settings and what is allowed. StateError if the cache can't be used.
    """
    if data.source == "csv":
        raise OperatorError("data.source is csv, and images are read from digits or mnist; task.name may be tabular")
    if data.source == "digits":
        training, held_out = examples.read(_DIGITS)
        return Shard(data.shard, select(training, data), held_out)
    return _load_mnist(data, cache)


def select(training: Examples, data: Data) -> Examples:
    """Return the examples of this node's shard. Raises OperatorError if there are more shards than examples."""
    if data.shards > len(training):
        raise OperatorError(
            f"data.shards is {data.shards}, and {data.source} has only {len(training)} training images to share out"
        )
    return training.take(partition(training.labels, data.shards, data.alpha, data.seed)[data.shard])


def _load_mnist(data: Data, cache: Path) -> Shard:
    source = _fingerprint(data.path)
    key = hashlib.sha256(msgspec.json.encode(data, enc_hook=str) + source).hexdigest()
    path = cache / f"shard-{key[:32]}.safetensors"
    with contextlib.suppress(OSError, ValueError):  # not there yet, or damaged: prepare it
        return Shard(data.shard, *examples.read(path))
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise state_error("make", cache, error) from error
    _prepare(data, path)
    for old in cache.glob("shard-*.safetensors"):
        if old != path:
            remove_durably(old)
    return Shard(data.shard, *examples.read(path))


def _fingerprint(folder: Path | None) -> bytes:
    """Return what changes when MNIST's files do (sizes and times), so that no stale shard is used.

    Raises OperatorError if they are not there: better at the start than after the cache is gone.
    """
    if folder is None:
        raise OperatorError("data.path is missing; source mnist needs the folder that holds MNIST/raw")
    raw = folder / "MNIST" / "raw"
    facts = []
    for name in _MNIST_FILES:
        try:
            status = (raw / name).stat()
        except OSError as error:
            raise OperatorError(
                f"data.path: {raw / name} can't be read ({error.strerror}); "
                "data.path must be a folder with the four uncompressed IDX files of MNIST in MNIST/raw"
            ) from None
        facts.append(f"{name} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(facts).encode()


def _prepare(data: Data, path: Path) -> None:
    """Run ``appliance.training.prepare`` in a process of its own, whose memory is gone when it ends."""
    settings = msgspec.json.encode(data, enc_hook=str).decode()
    # -P: never import from the folder that the daemon happens to run in.
    command = [sys.executable, "-P", "-m", "appliance.training.prepare", settings, str(path)]
    try:
        child = subprocess.run(  # noqa: S603 - this program itself, and no shell
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PREPARE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise OperatorError(
            f"data.path: preparing the shard from {data.path} took over {_PREPARE_TIMEOUT_S:.0f} s and was stopped; "
            "copy the data to a faster disk"
        ) from None
    if child.returncode:
        lines = child.stderr.strip().splitlines() or [f"exit status {child.returncode}"]
        raise OperatorError(lines[-1])
