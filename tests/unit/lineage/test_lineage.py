"""Invariant 2: one global model a round, and the lineage never forks or goes back."""

import math

import msgspec
import pytest

from appliance.lineage.lineage import Lineage
from appliance.words.ids import digest_of
from appliance.words.models import LATEST, GlobalModel
from appliance.words.settings import Models


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


OLD_ENTRY = bytes.fromhex(
    "8ca776657273696f6e01a5726f756e6401a47465726d01a6646967657374d9477368613235363a6361306466326339356161"
    "3134346331643066663266663363386639363766646331646539656630633431323062333732363431363730316235313964"
    "363139a462617365d9477368613235363a653432323365643230643765613537343061333236653262323638636136646239"
    "31643034316366353139346635373765333933613862613362383564386539a77570646174657303a8657870656374656405"
    "a773616d706c6573cd012ca86163637572616379cb3fe0000000000000a46c6f7373cb3ff0000000000000ac636f6d6d6974"
    "7465645f6174cb0000000000000000aa6475726174696f6e5f73cb4012000000000000"
)
"""As the version before rollbacks wrote ``model(1, duration_s=4.5)``."""


# --- entries that make no new model -----------------------------------------------------------------------------------


def _rollback(version: int, to: int) -> GlobalModel:
    return model(version, f"m{to}", base=f"m{version - 1}", rolled_back_to=to)


def test_a_rollback_is_an_entry_of_its_own_and_rounds_go_on_from_it() -> None:
    lineage = _of(4)
    assert lineage.apply(_rollback(4, 1))
    assert (lineage.next_version, lineage.next_round) == (5, 5)
    assert not lineage.apply(model(5, base="m3")), "it is on the former head"
    assert lineage.apply(model(5, base="m1"))
    # And back again to what the rollback left.
    assert lineage.apply(model(6, "m3", base="m5", rolled_back_to=3))


@pytest.mark.parametrize(
    "wrong",
    [
        _rollback(3, 3),
        _rollback(3, 9),
        model(3, "m1", rolled_back_to=0),
        model(3, "new", rolled_back_to=1),
        model(3, "m1", rolled_back_to=1, withheld="both"),
        model(3, withheld="with another digest"),
        model(0, withheld="a first model has no base", version=3, round=3),
    ],
)
def test_an_entry_is_what_it_says_or_is_left_out(wrong: GlobalModel) -> None:
    """Each node finds the same, so that no leader has them go back to bytes that nobody ever had."""
    lineage = _of(3)
    assert not lineage.apply(wrong)
    assert lineage.apply(model(3, "m2", withheld="it was worse"))
    assert lineage.apply(model(4, base="m2"))


def test_the_bytes_of_the_newest_different_models_are_kept() -> None:
    lineage = _of(4)
    for version in (4, 5, 6):
        assert lineage.apply(model(version, "m3", base="m3", withheld="it was worse"))
    assert lineage.kept(Models(keep=2)) == {model(3).digest, model(2).digest}
    assert lineage.kept(Models(keep=2, keep_every=1, keep_old=1)) == {model(n).digest for n in (3, 2, 1)}
    assert lineage.kept(Models(keep=100)) == {model(n).digest for n in range(4)}
    assert Lineage().kept(Models()) == frozenset()


def test_an_entry_of_the_form_before_rollbacks_is_read_and_an_ordinary_one_is_still_written_so() -> None:
    """Logs outlive versions, and nodes are upgraded one after another."""
    assert msgspec.msgpack.decode(OLD_ENTRY, type=GlobalModel) == model(1, duration_s=4.5)
    assert msgspec.msgpack.encode(model(1, duration_s=4.5)) == OLD_ENTRY


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
