"""What the two sides do with updates in other encodings than float32, and with what these lose."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from appliance.aggregation.tensors import Array, parse, serialise
from appliance.envelopes.pool import KeyPool
from appliance.node.participant_work import OpenedReceipt
from appliance.rounds.collected import OpenedUpdate
from appliance.rounds.participant import FinishedUpdate
from appliance.storage import checked, files, models
from appliance.storage.checked import Absent
from appliance.storage.models import KeptUpdate, Residual
from appliance.words.errors import ApplianceError, StateError
from appliance.words.models import Encoding, TensorLayout
from appliance.words.settings import Aggregation
from tests.unit.aggregation.layouts import whole
from tests.unit.node.test_work import Pair, changed, commit


def sent(pair: Pair, update: FinishedUpdate) -> dict[str, Array]:
    """Deliver an update that is to count; return what the strategy is given of it."""
    opened = pair.deliver(update)
    assert opened.refusal == ""
    kept = pair.leader._opened[opened.handle].kept
    assert kept is not None
    arrays = whole(kept[1], pair.layout)
    pair.leader.count(opened.handle)
    receipt = pair.answered(pair.leader.answer(opened.handle, accepted=True, reason=""))
    assert isinstance(receipt, OpenedReceipt)
    return arrays


def same(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return all(one[name].tobytes() == other[name].tobytes() for name in one)


def lost(pair: Pair) -> dict[str, Array] | None:
    """Return the residual on the participant's disk."""
    found = pair.residuals.get()
    return None if isinstance(found, Absent) else dict(parse(found.weights, pair.layout))


@pytest.fixture
def int8(tmp_path: Path, keys: KeyPool) -> Pair:
    pair = Pair(tmp_path, keys, encoding="int8")
    pair.fetch_base()
    pair.start_round()
    return pair


def step(pair: Pair) -> FinishedUpdate:
    """Keep an update whose difference to the base no int8 holds exactly."""
    random = np.random.default_rng(0)
    return pair.keep(changed(pair, lambda array: array + random.uniform(-1, 1, array.shape).astype(np.float32)))


def test_an_encoded_update_is_decoded_before_the_strategy_sees_it_and_its_loss_kept(int8: Pair) -> None:
    update = step(int8)
    arrays = sent(int8, update)
    kept = int8.updates.get()
    assert isinstance(kept, KeptUpdate)
    exact = parse(kept.weights, int8.layout)
    assert all(0 < np.abs(arrays[name] - exact[name]).max() <= 1.01 / 254 for name in exact)
    assert lost(int8) is None, "nothing holds before the round is committed"
    int8.participant.forget(update.update_id, 1)
    rest = lost(int8)
    assert rest is not None
    assert all(np.allclose(arrays[name] + rest[name], exact[name], atol=1e-6) for name in exact)


def test_the_next_update_carries_what_the_last_one_lost(int8: Pair) -> None:
    update = step(int8)
    first = sent(int8, update)
    int8.participant.forget(update.update_id, 1)
    int8.start_round()
    again = sent(int8, step(int8))
    assert not same(first, again)
    exact = parse(changed(int8, lambda array: array), int8.layout)
    both = {name: first[name].astype(np.float64) + again[name] - 2.0 * exact[name] for name in exact}
    random = np.random.default_rng(0)
    wanted = {name: 2.0 * random.uniform(-1, 1, array.shape) for name, array in exact.items()}
    worst = max(float(np.abs(both[name] - wanted[name]).max()) for name in both)
    assert worst <= 1.03 / 254, "of two rounds no more is missing than of one"


@pytest.mark.parametrize(
    ("accepted", "term"),
    [
        pytest.param(False, 1, id="refused"),
        pytest.param(True, 2, id="committed by another leader, which did not have it"),
        pytest.param(True, None, id="nobody knows by whom it was committed"),
    ],
)
def test_an_update_that_did_not_count_leaves_no_residual(int8: Pair, accepted: bool, term: int | None) -> None:
    update = step(int8)
    opened = int8.deliver(update)
    int8.answered(int8.leader.answer(opened.handle, accepted=accepted, reason=""))
    int8.participant.forget(update.update_id, term)
    assert lost(int8) is None
    assert isinstance(int8.updates.get(), Absent)


def test_another_leader_gets_the_same_values_and_another_encoding_if_it_wants_one(int8: Pair) -> None:
    """The kept update is exact: what the first leader had of it is no loss to the second."""
    former = step(int8)
    sent(int8, former)
    int8.participant.forget(former.update_id, 1)
    int8.start_round()
    update = step(int8)
    first = sent(int8, update)
    int8.participant = int8.restarted()
    int8.announce(2)
    int8.start_round(term=2)
    assert same(sent(int8, update), first)
    int8.encoding = "float32"
    int8.announce(3)
    int8.start_round(term=3)
    kept = int8.updates.get()
    assert isinstance(kept, KeptUpdate)
    assert same(sent(int8, update), parse(kept.weights, int8.layout))
    before = lost(int8)
    int8.participant.forget(update.update_id, 3)
    after = lost(int8)
    assert before is not None
    assert after is not None
    assert same(before, after), "what was exact has lost nothing, and the former residual still waits"


@pytest.mark.parametrize("dies_at", [1, 2, 3])
def test_a_crash_at_any_write_leaves_the_residual_before_or_after_the_round(
    int8: Pair, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    former = step(int8)
    sent(int8, former)
    int8.participant.forget(former.update_id, 1)
    before = lost(int8)
    int8.start_round()
    update = step(int8)
    writes = itertools.count(1)

    def dying(call: Callable[..., object]) -> Callable[..., object]:
        def write(*arguments: object) -> object:
            if next(writes) == dies_at:
                raise KeyboardInterrupt
            return call(*arguments)

        return write

    def live_on() -> None:
        sent(int8, update)
        int8.participant.forget(update.update_id, 1)

    with monkeypatch.context() as patched:
        for module, name in ((checked, "write_atomically"), (models, "replace_durably"), (models, "remove_durably")):
            patched.setattr(module, name, dying(getattr(files, name)))
        with pytest.raises(KeyboardInterrupt):
            live_on()
    int8.participant = int8.restarted()
    assert isinstance(int8.updates.get(), KeptUpdate), "so the core, told of the commit again, has it forgotten again"
    for _ in range(2):
        int8.participant.forget(update.update_id, 1)
        rest = lost(int8)
        assert rest is not None
        assert before is not None
        assert same(rest, before) is (dies_at == 1), "only before the first write the receipt may as well not have come"


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda pair: (pair.folder / "residual").write_bytes(b"rubbish"), "was damaged"),
        (lambda pair: put_residual(pair, b"no model"), "is of no use and is dropped: not a safetensors"),
        (lambda pair: put_residual(pair, changed(pair, lambda array: array * np.float32(np.nan))), "not finite"),
        (lambda pair: put_residual(pair, other_layout()), "is of no use and is dropped: the model"),
    ],
)
def test_a_residual_of_no_use_is_dropped_and_said_and_the_update_counts(
    int8: Pair, caplog: pytest.LogCaptureFixture, damage: Callable[[Pair], object], said: str
) -> None:
    update = step(int8)
    clean = sent(int8, update)
    damage(int8)
    assert same(sent(int8, update), clean)
    assert said in caplog.text
    assert lost(int8) is None


def put_residual(pair: Pair, weights: bytes) -> None:
    pair.residuals.put_next(Residual(bytes(16), 1, memoryview(weights)))
    pair.residuals.settle(bytes(16), 1)


def other_layout() -> bytes:
    layout = (TensorLayout("other", "F32", (2,)),)
    return serialise({"other": np.zeros(2, np.float32)}, layout)


def test_a_disk_that_takes_no_residual_costs_no_update(
    int8: Pair, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise StateError("can't write: the disk is full")

    update = step(int8)
    with monkeypatch.context() as patched:
        patched.setattr(checked, "write_atomically", full)
        sent(int8, update)
    assert "what the update lost by its encoding can't be kept: can't write: the disk is full" in caplog.text
    int8.participant.forget(update.update_id, 1)
    assert lost(int8) is None


def test_an_update_in_another_encoding_than_the_round_takes_is_refused_and_told_so(int8: Pair) -> None:
    update = step(int8)
    sealed = int8.participant.seal_update(update.update_id, int8.announcement, int8.token_key, "float16")
    assert sealed is not None
    opened = int8.leader.open(sealed.envelope)
    assert isinstance(opened, OpenedUpdate)
    assert opened.refusal == "it is encoded as float16, and this round takes int8"
    receipt = int8.answered(int8.leader.answer(opened.handle, accepted=False, reason=opened.refusal))
    assert isinstance(receipt, OpenedReceipt)
    assert receipt.receipt.reason == opened.refusal
    sent(int8, update)


def test_an_update_without_its_base_can_not_be_encoded_and_the_store_shows_why(int8: Pair) -> None:
    update = step(int8)
    int8.models.doom({int8.base})
    int8.models.sweep()
    with pytest.raises(ApplianceError, match="base model is not here"):
        int8.participant.seal_update(update.update_id, int8.announcement, int8.token_key, "int8")
    int8.encoding = "float32"
    int8.start_round()
    sent(int8, update)


def test_a_leader_without_the_base_opens_no_round_with_differences_to_it(int8: Pair) -> None:
    int8.leader_models.doom({int8.base})
    int8.leader_models.sweep()
    with pytest.raises(ApplianceError, match="not here"):
        int8.leader.start_round(2, int8.base, "int8")


@pytest.mark.parametrize("encoding", ["float32", "float16", "int8"])
def test_the_length_of_an_envelope_depends_on_the_encoding_alone(
    tmp_path: Path, keys: KeyPool, encoding: Encoding
) -> None:
    pair = Pair(tmp_path, keys, encoding=encoding)
    pair.fetch_base()
    pair.start_round()
    lengths = set()
    for update in (changed(pair, lambda array: array), changed(pair, lambda array: array * np.float32(-1e30))):
        kept = pair.keep(update, 10**12)
        sealed = pair.participant.seal_update(kept.update_id, pair.announcement, pair.token_key, encoding)
        assert sealed is not None
        lengths.add(len(sealed.envelope))
    assert len(lengths) == 1


def test_updates_are_the_difference_to_the_network_alone_of_a_base_with_a_strategys_state(
    tmp_path: Path, keys: KeyPool
) -> None:
    pair = Pair(tmp_path, keys, Aggregation("fedadam"), "int8")
    pair.fetch_base()
    commit(pair, 1, 0.1)
    pair.fetch_base()
    pair.start_round()
    update = step(pair)
    kept = pair.updates.get()
    assert isinstance(kept, KeptUpdate)
    exact = parse(kept.weights, pair.layout)
    arrays = sent(pair, update)
    assert arrays.keys() == exact.keys()
    assert all(np.abs(arrays[name] - exact[name]).max() <= 1.01 / 254 for name in exact)
