"""The embedded digits, and MNIST by way of the prepared file."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from appliance.training import datasets, examples
from appliance.training.examples import Examples
from appliance.training.prepare import prepare
from appliance.words.errors import OperatorError, StateError
from appliance.words.settings import Data
from tests.unit.training.mnist import ROOT, needs_mnist

RAW = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TRAINING, HELD_OUT = 60, 20


@pytest.fixture
def tiny_mnist(tmp_path: Path) -> Path:
    """Return a data folder with 60 and 20 images in MNIST's files (http://yann.lecun.com/exdb/mnist/, IDX format)."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", TRAINING), ("t10k", HELD_OUT)):
        sizes = [count.to_bytes(4, "big"), (28).to_bytes(4, "big"), (28).to_bytes(4, "big")]
        pixels = random.integers(0, 256, count * 784, dtype=np.uint8).tobytes()
        labels = (np.arange(count) % 10).astype(np.uint8).tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + b"".join(sizes) + pixels)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + sizes[0] + labels)
    return tmp_path / "data"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare in this process: a child takes seconds to import torch, and two tests with one are enough."""
    monkeypatch.setattr(datasets, "_prepare", prepare)


def rows(part: Examples) -> set[bytes]:
    """Return the images as values that can be compared."""
    return {image.tobytes() for image in part.images}


def test_the_digits_are_the_file_that_the_script_made(tmp_path: Path) -> None:
    digest = hashlib.sha256(datasets._DIGITS.read_bytes()).hexdigest()
    assert digest == "695cc13f82b75e8c6d220b28ec4d7e7a4f7b524e0ce356dd8ed66efcd79eefdf"
    shard = datasets.load(Data(), tmp_path)
    assert (len(shard.training), len(shard.held_out)) == (1437, 360)
    assert set(np.bincount(shard.held_out.labels)) <= {34, 35, 36, 37}
    assert shard.training.images.max() == 255
    assert not rows(shard.training) & rows(shard.held_out)
    assert list(tmp_path.iterdir()) == []


def test_the_digits_shards_share_the_training_set_and_one_held_out_set(tmp_path: Path) -> None:
    shards = [datasets.load(Data(shard=number, shards=5, alpha=0.5), tmp_path) for number in range(5)]
    assert [shard.number for shard in shards] == [0, 1, 2, 3, 4]
    assert sum(len(shard.training) for shard in shards) == 1437
    assert set.union(*(rows(shard.training) for shard in shards)) == rows(datasets.load(Data(), tmp_path).training)
    assert {shard.held_out.images.tobytes() for shard in shards} == {shards[0].held_out.images.tobytes()}


def test_more_shards_than_digits_are_refused_by_key(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"data\.shards is 2000, and digits has only 1437"):
        datasets.load(Data(shards=2000), tmp_path)


def test_mnist_is_prepared_once_and_then_read(
    tiny_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(source="mnist", path=tiny_mnist, shard=1, shards=3, seed=5)
    first = datasets.load(data, tmp_path / "state" / "cache")
    monkeypatch.setattr(datasets, "_prepare", lambda *_: pytest.fail("prepared again"))
    again = datasets.load(data, tmp_path / "state" / "cache")
    assert len(first.training) == 20
    assert len(first.held_out) == HELD_OUT
    assert first.number == again.number == 1
    assert first.training.images.tobytes() == again.training.images.tobytes()
    assert first.held_out.labels.tobytes() == again.held_out.labels.tobytes()


@pytest.mark.usefixtures("in_process")
def test_mnist_is_prepared_again_for_other_settings_other_data_and_after_damage(
    tiny_mnist: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    data = Data(source="mnist", path=tiny_mnist, shards=3)
    first = datasets.load(data, cache)
    other = datasets.load(msgspec.structs.replace(data, shard=2), cache)
    assert not rows(first.training) & rows(other.training)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert rows(datasets.load(msgspec.structs.replace(data, shard=2), cache).training) == rows(other.training)
    labels = tiny_mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:8] + bytes([7]) * TRAINING)
    os.utime(labels, ns=(1, 1))
    changed = datasets.load(msgspec.structs.replace(data, shard=2), cache)
    assert set(changed.training.labels) == {7}
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("gone", [".", "MNIST/raw", *(f"MNIST/raw/{name}" for name in RAW)])
def test_missing_data_are_an_error_that_names_the_key_and_what_is_expected(
    tiny_mnist: Path, tmp_path: Path, gone: str
) -> None:
    shutil.move(tiny_mnist / gone, tmp_path / "elsewhere")
    with pytest.raises(
        OperatorError, match=r"data\.path: .*ubyte can't be read.*four uncompressed IDX files"
    ) as caught:
        datasets.load(Data(source="mnist", path=tiny_mnist), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("name", RAW)
def test_damaged_data_are_an_error_that_names_the_key_and_leave_no_file(
    tiny_mnist: Path, tmp_path: Path, name: str
) -> None:
    file = tiny_mnist / "MNIST" / "raw" / name
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(OperatorError, match=r"data\.path: .* holds no MNIST that can be read") as caught:
        datasets.load(Data(source="mnist", path=tiny_mnist), tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_the_child_process_complains_of_is_the_error(tiny_mnist: Path, tmp_path: Path) -> None:
    (tiny_mnist / "MNIST" / "raw" / RAW[0]).write_bytes(b"")
    with pytest.raises(OperatorError, match=r"^data\.path: .* holds no MNIST that can be read: .+$"):
        datasets.load(Data(source="mnist", path=tiny_mnist), tmp_path / "cache")


@pytest.mark.usefixtures("in_process")
def test_no_path_too_many_shards_and_a_cache_in_the_way_are_errors(tiny_mnist: Path, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"data\.path is missing"):
        datasets.load(Data(source="mnist"), tmp_path)
    with pytest.raises(OperatorError, match=r"data\.shards is 61, and mnist has only 60"):
        datasets.load(Data(source="mnist", path=tiny_mnist, shards=61), tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file"):
        datasets.load(Data(source="mnist", path=tiny_mnist), tmp_path / "file")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8)),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.uint8)),
        (np.zeros((2, 784), np.uint8), np.zeros(2, np.uint8)),
        (np.zeros((2, 28, 28), np.float32), np.zeros(2, np.uint8)),
        (np.zeros((2, 28, 28), np.uint8), np.full(2, 10, np.uint8)),
        pytest.param(np.zeros((28, 28), np.uint8), np.array(7, np.uint8), id="labels in no row"),
        pytest.param(np.zeros((1, 28, 28), np.uint8), np.zeros((1, 1), np.uint8), id="labels in two rows"),
    ],
)
def test_examples_that_are_none_can_not_exist(images: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not labelled images"):
        Examples(images, labels)


def test_another_safetensors_file_is_no_shard(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="not a shard's file"):
        examples.read(tmp_path / "x")


def test_loading_data_imports_neither_torch_nor_torchvision() -> None:
    script = (
        "import sys; from pathlib import Path; from appliance.training import datasets; "
        "from appliance.words.settings import Data; datasets.load(Data(), Path('unused')); "
        "sys.exit(' '.join({'torch', 'torchvision'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@needs_mnist
def test_the_real_mnist_gives_five_shards_of_12000(tmp_path: Path) -> None:
    shard = datasets.load(Data(source="mnist", path=ROOT, shard=4, shards=5), tmp_path)
    assert len(shard.training) == 12_000
    assert len(shard.held_out) == 10_000
    first = np.bincount(shard.held_out.labels[:2000], minlength=10)
    assert first.min() > 150, "any first part of the held-out set is a fair sample"
