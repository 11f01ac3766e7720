"""Mutations of msgpack: most of what comes out is msgpack again, and reaches what flipped bytes do not."""

import itertools
import random

import msgspec
import pytest

from appliance.consensus.messages import Entry
from appliance.storage import frames
from tests.fuzz.structure import MUTATORS, mutate, mutate_log
from tests.fuzz.targets import TARGETS

VALUE = {
    "term": 3,
    "kind": "vote",
    "loss": 0.5,
    "none": None,
    "inner": msgspec.msgpack.encode([1, "a"]),
    "list": [1, 2],
}
CONTENT = msgspec.msgpack.encode(VALUE)
SEEDS = range(400)


def flip(content: bytes, most: int) -> bytes:
    """Stand in for libFuzzer's own mutation."""
    chance = random.Random(content)
    return bytes(chance.choice((byte, chance.randrange(256))) for byte in content)[:most]


def test_it_is_repeatable_and_keeps_to_the_length() -> None:
    for seed in SEEDS:
        changed = mutate(CONTENT, 100, seed, flip)
        assert changed == mutate(CONTENT, 100, seed, flip)
        assert len(changed) <= 100


def test_most_of_what_comes_out_is_msgpack_of_another_value() -> None:
    whole = 0
    for seed in SEEDS:
        try:
            whole += msgspec.msgpack.decode(mutate(CONTENT, 4096, seed, flip)) != VALUE
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    assert whole > 0.6 * len(SEEDS)


def test_each_part_is_changed_added_or_left_out_and_so_is_msgpack_in_msgpack() -> None:
    found = []
    for seed in SEEDS:
        try:
            found.append(msgspec.msgpack.decode(mutate(CONTENT, 4096, seed, flip)))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
    maps = [each for each in found if isinstance(each, dict)]
    assert len(maps) < len(found)
    for key, value in VALUE.items():
        assert any(each.get(key, value) != value for each in maps), f"{key} is never changed"
        assert any(key not in each for each in maps), f"{key} is never left out"
    assert any(each.keys() > VALUE.keys() for each in maps)
    inner = [each["inner"] for each in maps if isinstance(each.get("inner"), bytes)]
    assert any(each != VALUE["inner"] and each[:1] in {b"\x91", b"\x92", b"\x93"} for each in inner)


@pytest.mark.parametrize("content", [b"", b"\xc1", b"\x92\x01", b"\xa1\xff", b"\x91" * 5000])
def test_what_is_no_msgpack_is_left_to_libfuzzer(content: bytes) -> None:
    for seed in SEEDS:
        assert mutate(content, 4096, seed, flip) == flip(content, 4096)


def test_frames_of_a_log_keep_sound_checksums() -> None:
    content = b"\0" + b"".join(
        frames.frame(msgspec.msgpack.encode([("entry", Entry(n, 1, "data", b"d"))])) for n in (1, 2)
    )
    sound = 0
    for seed in SEEDS:
        changed = mutate_log(content, 4096, seed, flip)
        payload, end = frames.parse(changed, 1)
        sound += payload is not None and frames.parse(changed, end)[0] is not None and changed != content
    assert sound > 0.6 * len(SEEDS)


def test_every_mutator_is_of_a_target_and_takes_any_bytes() -> None:
    assert MUTATORS.keys() <= TARGETS.keys()
    for (name, mutator), seed in itertools.product(MUTATORS.items(), range(50)):
        content = random.Random(f"{name} {seed}").randbytes(seed)
        assert len(mutator(content, 4096, seed, flip)) <= 4096
