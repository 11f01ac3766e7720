"""Updates that wait for their round to close: sealed on the disk, gone with the round, and told when damaged."""

import errno
import os
import tracemalloc
from pathlib import Path

import pytest

from appliance.envelopes.pool import KeyPool
from appliance.storage import spool
from appliance.words.errors import ApplianceError, DiskFullError, StateError
from appliance.words.settings import Aggregation, StrategyName
from tests.unit.node.test_work import Pair, changed, count


def files_of(pair: Pair) -> list[Path]:
    """Return the leader's open files with updates in them."""
    open_files = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    folder = str(pair.folder / "collected")
    return [file for file in open_files if os.path.lexists(file) and os.readlink(file).startswith(folder)]


@pytest.fixture
def pair(tmp_path: Path, keys: KeyPool) -> Pair:
    pair = Pair(tmp_path, keys)
    pair.start_round()
    return pair


def test_nothing_of_an_update_is_on_the_disk_as_it_is(pair: Pair) -> None:
    weights = changed(pair, lambda array: array + 1)
    count(pair, weights)
    [file] = files_of(pair)
    content = file.read_bytes()
    assert len(content) > len(weights)
    assert not any(weights[at : at + 32] in content for at in range(0, len(weights) - 32, 4096))


def test_an_update_is_on_the_disk_only_until_its_round_is_over(pair: Pair) -> None:
    weights = changed(pair, lambda array: array)
    count(pair, weights, weights)
    assert len(files_of(pair)) == 2
    assert pair.leader.aggregate() == pair.base
    assert files_of(pair) == []


@pytest.mark.parametrize("how", ["refused", "round opened again", "term over"])
def test_an_update_that_never_counts_does_not_stay(pair: Pair, how: str) -> None:
    opened = pair.deliver(pair.keep(changed(pair, lambda array: array)))
    assert len(files_of(pair)) == 1
    match how:
        case "refused":
            assert pair.leader.answer(opened.handle, accepted=False, reason="late") is not None
        case "round opened again":
            pair.leader.count(opened.handle)
            pair.start_round()
        case _:
            pair.leader.end()
    assert files_of(pair) == []


def test_one_with_a_refusal_is_not_even_kept(pair: Pair) -> None:
    assert pair.deliver(pair.keep(b"rubbish")).refusal
    assert files_of(pair) == []


@pytest.mark.parametrize("strategy", ["mean", "median"])
def test_a_damaged_one_makes_no_model_and_the_next_round_does(
    tmp_path: Path, keys: KeyPool, strategy: StrategyName
) -> None:
    pair = Pair(tmp_path, keys, Aggregation(strategy))
    weights = changed(pair, lambda array: array)
    pair.start_round()
    count(pair, weights, weights, weights)
    file = files_of(pair)[1]
    size = file.stat().st_size
    with file.open("r+b") as damaged:
        damaged.seek(size // 2)
        damaged.write(b"damaged")
    with pytest.raises(StateError, match="is damaged: check the disk"):
        pair.leader.aggregate()
    with pytest.raises(ApplianceError, match="could not be counted"):
        pair.leader.aggregate()
    assert files_of(pair) == []
    pair.start_round()
    count(pair, weights, weights, weights)
    assert pair.leader.aggregate() == pair.base


def test_without_space_it_is_told_and_the_same_update_counts_later(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    update = pair.keep(changed(pair, lambda array: array))
    with monkeypatch.context() as without_space:
        without_space.setattr(spool, "write_fully", full)
        with pytest.raises(DiskFullError):
            pair.deliver(update)
    opened = pair.deliver(update)
    pair.leader.count(opened.handle)
    assert pair.leader.aggregate() == pair.base


def test_memory_does_not_grow_with_the_updates(pair: Pair) -> None:
    weights = changed(pair, lambda array: array)
    tracemalloc.start()
    try:
        for _ in range(8):
            count(pair, weights)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        pair.leader.aggregate()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One opened chunk and some objects for each of the eight, and then the model twice: as arrays and as bytes.
    assert held < 8 * 300_000, "the updates are in memory"
    assert peak - held < 2 * len(weights) + 8 * 600_000
