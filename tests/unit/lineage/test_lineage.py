"""Invariant 2: one global model a round, and the lineage never forks or goes back."""

import math

import msgspec
import pytest

from appliance.lineage.lineage import Lineage
from appliance.words.ids import digest_of
from appliance.words.models import LATEST, GlobalModel


def model(round_: int, name: str = "", *, base: str | None = None, **changes: object) -> GlobalModel:
    """Return the model of a round, on the one of the round before."""
    before = base if base is not None else f"m{round_ - 1}"
    first = round_ == 0 and base is None
    made = GlobalModel(
        version=round_,
        round=round_,
        term=1,
        digest=digest_of((name or f"m{round_}").encode()),
        base=None if first else digest_of(before.encode()),
        updates=3,
        expected=5,
        samples=300,
        accuracy=0.5,
        loss=1.0,
        committed_at=0.0,
    )
    return msgspec.structs.replace(made, **changes)


def _of(length: int) -> Lineage:
    lineage = Lineage()
    assert all(lineage.apply(model(round_)) for round_ in range(length))
    return lineage


def test_an_empty_lineage_waits_for_the_initial_model() -> None:
    lineage = Lineage()
    assert (lineage.head, lineage.next_round, lineage.next_version) == (None, 0, 0)
    assert lineage.apply(model(0))
    assert (lineage.head, lineage.next_round, lineage.next_version) == (model(0), 1, 1)


def test_models_follow_one_another() -> None:
    assert list(_of(4).models) == [model(round_) for round_ in range(4)]


@pytest.mark.parametrize(
    "wrong",
    [
        model(2, "another"),
        model(2),
        model(1),
        model(0),
        model(4),
        model(3, base="another"),
        model(3, version=4),
        model(3, round=4),
        model(3, base="", version=3),
        msgspec.structs.replace(model(3), base=None),
    ],
    ids=[
        "second model of a round",
        "the same again",
        "an older one",
        "a second initial model",
        "a gap",
        "another base",
        "a version that skips",
        "a round that skips",
        "a base that is none",
        "no base",
    ],
)
def test_what_does_not_follow_is_left_out(wrong: GlobalModel) -> None:
    lineage = _of(3)
    assert not lineage.apply(wrong)
    assert list(lineage.models) == [model(round_) for round_ in range(3)]
    assert lineage.apply(model(3))


@pytest.mark.parametrize("wrong", [model(1), model(0, base="something")])
def test_a_lineage_begins_with_the_initial_model(wrong: GlobalModel) -> None:
    lineage = Lineage()
    assert not lineage.apply(wrong)
    assert lineage.head is None


def test_all_nodes_that_see_the_same_entries_keep_the_same_models() -> None:
    """Whatever two leaders proposed, the order of the log decides."""
    entries = [model(0), model(1), model(1, "other"), model(2, base="other"), model(2), model(4), model(3)]
    lineages = [Lineage() for _ in range(3)]
    for lineage in lineages:
        for entry in entries:
            lineage.apply(entry)
    assert [list(lineage.models) for lineage in lineages] == [[model(0), model(1), model(2), model(3)]] * 3


# --- what can be committed, and then read again by everybody ----------------------------------------------------------


@pytest.mark.parametrize("field", ["committed_at", "duration_s", "accuracy", "loss"])
@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf, -1.0])
def test_an_entry_with_a_number_that_json_cannot_say_is_none(field: str, value: float) -> None:
    written = msgspec.msgpack.encode(msgspec.structs.replace(model(1), **{field: value}))
    with pytest.raises(msgspec.ValidationError, match="Expected `float`"):
        msgspec.msgpack.decode(written, type=GlobalModel)


@pytest.mark.parametrize(
    ("now", "told"), [(-1e300, 0.0), (-1.0, 0.0), (1.8e9, 1.8e9), (LATEST, LATEST), (2 * LATEST, LATEST)]
)
def test_whatever_an_honest_leaders_clock_says_its_entry_is_read_by_all(now: float, told: float) -> None:
    stamped = model(1).stamped(now)
    assert stamped.committed_at == told
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(stamped), type=GlobalModel) == stamped
    assert msgspec.json.decode(msgspec.json.encode([stamped]), type=list[GlobalModel]) == [stamped]
