"""Mutations that know msgpack: a value is decoded, changed in one or a few places, and encoded again.

A byte that is flipped in msgpack most often makes it none at all, and ends at the decoder. What is changed here as a
value is msgpack again, and gets as far as our own checks. Pure, and the same for the same seed: libFuzzer's own
mutation of bytes is handed in.
"""

import math
import random
from collections.abc import Callable

import msgspec

from appliance.storage import frames

Bytes = Callable[[bytes, int], bytes]
"""Changes any bytes, which may have a length afterwards."""
Mutator = Callable[[bytes, int, int], bytes]
"""Bytes, how many may come of them, and a seed."""

FRAMED = 0x80
"""In the first byte of an input of the target ``log``: the rest is to be put into a frame."""
PLAIN_SHARE = 0.2
"""Of the mutations that stay libFuzzer's: the encoding itself is to be attacked too."""
_MOST_CHANGES = 3
_DEEP = 60
"""Nesting that is gone into; msgspec stops far later, and says so by itself."""

_VALUES: tuple[object, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        127,
        128,
        2**31,
        2**53,
        10**12,
        2**62 - 1,
        2**62,
        2**63 - 1,
        2**63,
        2**64 - 1,
        -(2**63),
    ),
    *(0.0, -0.0, 1.0, -1.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan),
    *("", "\x00", "\n", "node1", "é", "a" * 64, b"", bytes(8), bytes(32), bytes(256)),
)
_BROKEN = (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError, ValueError, OverflowError)
"""What decoding any bytes can raise, and encoding what became of them: a key that can't be one, a date before all."""


def mutate(content: bytes, most: int, seed: int, plain: Bytes) -> bytes:
    """Return bytes that differ from ``content`` in a few values, or as ``plain`` makes them if they are no msgpack."""
    chance = random.Random(seed)
    changed = None if chance.random() < PLAIN_SHARE else _mutated(content, chance, plain)
    return plain(content, most) if changed is None or len(changed) > most else changed


def mutate_log(content: bytes, most: int, seed: int, plain: Bytes) -> bytes:
    """Mutate an input of the target ``log``: a byte that says what the rest is, and msgpack, bare or in frames."""
    chance = random.Random(seed)
    if len(content) < 2 or chance.random() < PLAIN_SHARE:
        return plain(content, most)
    if content[0] & FRAMED:
        return content[:1] + mutate(content[1:], most - 1, seed, plain)
    payloads, position = [], 1
    while position < len(content):
        payload, position = frames.parse(content, position)
        if payload is None:
            return plain(content, most)
        payloads.append(payload)
    chosen = chance.randrange(len(payloads))
    payloads[chosen] = mutate(payloads[chosen], most, seed, plain)
    if chance.random() < 0.1:
        payloads.insert(chosen, chance.choice(payloads))
    framed = content[:1] + b"".join(map(frames.frame, payloads))
    return plain(content, most) if len(framed) > most else framed


def _mutated(content: bytes, chance: random.Random, plain: Bytes) -> bytes | None:
    """Return the msgpack with changes; None if it is none, or can't be written any more."""
    try:
        value = msgspec.msgpack.decode(content)
        for _ in range(chance.randint(1, _MOST_CHANGES)):
            value = _changed(value, chance, plain, list(_inside(value)))
        return msgspec.msgpack.encode(value)
    except _BROKEN:
        return None


def _inside(value: object, depth: int = 0) -> list[object]:
    """Return a value and all in it."""
    found = [value]
    if depth < _DEEP:
        for each in _children(value):
            found += _inside(each, depth + 1)
    return found


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


def _changed(value: object, chance: random.Random, plain: Bytes, others: list[object]) -> object:
    """Return the value with one change: in one of its parts, mostly, or of itself."""
    children = _children(value)
    if children and chance.random() < 0.8:  # the leaves are where most checks look
        chosen = chance.randrange(len(children))
        part = _changed(children[chosen], chance, plain, others)
        if isinstance(value, dict):
            return {key: part if place == chosen else old for place, (key, old) in enumerate(value.items())}
        return [*children[:chosen], part, *children[chosen + 1 :]]
    if chance.random() < 0.2:
        return chance.choice([*others, *_VALUES])
    return _of_its_kind(value, chance, plain, others)


def _of_its_kind(value: object, chance: random.Random, plain: Bytes, others: list[object]) -> object:
    match value:
        case bool() | None:
            return chance.choice(_VALUES)
        case int():
            return chance.choice((value + 1, value - 1, -value, value * 2, value ^ (1 << chance.randrange(63))))
        case float():
            return chance.choice((-value, value * 2, value / 3, value + 1, math.nan, math.inf))
        case str():
            return plain(value.encode(), len(value) + 16).decode(errors="replace")
        case bytes():
            # Statements, entries and states are msgpack in msgpack.
            inner = _mutated(value, chance, plain) if value and chance.random() < 0.7 else None
            return plain(value, len(value) + 16) if inner is None else inner
        case list():
            return _list(value, chance, others)
        case dict():
            return _dict(value, chance, others)
    return chance.choice(_VALUES)


def _list(value: list[object], chance: random.Random, others: list[object]) -> list[object]:
    place = chance.randint(0, len(value))
    match chance.randrange(4 if value else 1):
        case 0:
            return [*value[:place], chance.choice([*others, *_VALUES]), *value[place:]]
        case 1:
            return [*value[:place], *value[place + 1 :]]
        case 2:
            return [*value[:place], *value[max(0, place - 1) :]]
    return chance.sample(value, len(value))


def _dict(value: dict[object, object], chance: random.Random, others: list[object]) -> dict[object, object]:
    keys = list(value)
    if not keys or chance.random() < 0.3:
        return {**value, chance.choice(["node1", "x", "", *keys]): chance.choice([*others, *_VALUES])}
    chosen = chance.choice(keys)
    if chance.random() < 0.5:
        return {key: old for key, old in value.items() if key != chosen}
    return {chance.choice(keys) if key == chosen else key: old for key, old in value.items()}


MUTATORS: dict[str, Callable[[bytes, int, int, Bytes], bytes]] = {
    **dict.fromkeys(
        (
            *("mesh", "head", "statement", "to_leader", "to_participant", "consensus", "snapshot", "lineage"),
            *("kept_update", "residual"),
        ),
        mutate,
    ),
    "log": mutate_log,
}
"""For the targets whose input is msgpack, or holds it; the others are left to libFuzzer."""
