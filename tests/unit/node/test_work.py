"""The work of both threads, joined without a network: what a participant seals, an aggregator opens, and back."""

import itertools
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from appliance.aggregation.tensors import Array, parse, serialise
from appliance.envelopes.format import parse_header
from appliance.envelopes.pool import KeyPool
from appliance.node.aggregator_work import AggregatorWork
from appliance.node.encoder import Encoder
from appliance.node.participant_work import OpenedReceipt, ParticipantWork
from appliance.rounds.collected import OpenedUpdate
from appliance.rounds.participant import FinishedUpdate
from appliance.storage import models
from appliance.storage.models import Absent, KeptUpdate, ModelStore, Residual, ResidualStore, UpdateStore
from appliance.tokens.wallet import Wallet
from appliance.training import datasets
from appliance.training.trainer import Trainer
from appliance.words.errors import ApplianceError, RemoteError, StateError
from appliance.words.ids import Digest
from appliance.words.messages import Announcement, ModelRequest, Sealed
from appliance.words.models import Encoding, Metrics, TensorLayout
from appliance.words.settings import Aggregation, Data, Training

MEAN = Aggregation()


class Pair:
    """A leader's and a participant's work, each with its own disk."""

    def __init__(
        self, folder: Path, keys: KeyPool, settings: Aggregation = MEAN, encoding: Encoding = "float32"
    ) -> None:
        trainer = Trainer(Training(), datasets.load(Data(shards=20), folder / "data"))
        self.layout = trainer.layout
        self.leader_models, self.models = ModelStore(folder / "leader"), ModelStore(folder / "models")
        self.folder = folder / "update"
        self.updates, self.residuals = UpdateStore(folder / "update"), ResidualStore(folder / "update")
        self.keys, self.trainer, self.encoding = keys, trainer, encoding
        self.leader = AggregatorWork(trainer, self.leader_models, keys, secrets.token_bytes, settings)
        self.wallet = Wallet(secrets.token_bytes(32))
        self.participant = self.restarted()
        self.token_key = b""
        self.base = self.leader.create_initial_model()
        self.announce(1)

    def restarted(self) -> ParticipantWork:
        """Return the participant's work as it begins, with what is on its disk."""
        return ParticipantWork(
            self.trainer,
            self.models,
            self.updates,
            self.keys,
            secrets.token_bytes,
            encoder=Encoder(self.layout, self.models, self.residuals),
            wallet=self.wallet,
        )

    def announce(self, term: int) -> None:
        key_id, public_key = self.leader.begin(term)
        self.announcement = Announcement(cluster="c", leader="node0", term=term, key_id=key_id, public_key=public_key)

    def start_round(self, term: int = 1) -> None:
        """Open round 1, and give the participant its token."""
        self.token_key = self.leader.start_round(1, self.base, self.encoding)
        wanted = self.participant.ask_token(term, 1, self.token_key)
        signed = self.leader.sign_token("node1", wanted.blinded)
        assert (signed.term, signed.round) == (term, 1)
        self.participant.take_token(self.token_key, signed.signature)

    def fetch_base(self) -> Digest:
        request = self.leader.open(self.participant.seal_request(self.base, self.announcement).envelope)
        assert isinstance(request, ModelRequest)
        answer = self.answered(self.leader.serve(request))
        assert isinstance(answer, str)
        return answer

    def deliver(self, update: FinishedUpdate) -> OpenedUpdate:
        sealed = self.participant.seal_update(update.update_id, self.announcement, self.token_key, self.encoding)
        assert sealed is not None
        opened = self.leader.open(sealed.envelope)
        assert isinstance(opened, OpenedUpdate)
        return opened

    def answered(self, sealed: Sealed | None) -> OpenedReceipt | Digest:
        assert sealed is not None
        return self.participant.open_answer(sealed.envelope, parse_header(sealed.envelope).key_id)

    def keep(self, weights: bytes, samples: int = 10) -> FinishedUpdate:
        update_id = secrets.token_bytes(16)
        self.updates.put(KeptUpdate(update_id, 1, self.base, samples, Metrics(0.5, 1.0, 10), weights))
        return FinishedUpdate(update_id, 1, self.base)


@pytest.fixture(scope="module")
def keys() -> Iterator[KeyPool]:
    with KeyPool(2, 2048) as pool:
        yield pool


@pytest.fixture
def pair(tmp_path: Path, keys: KeyPool) -> Pair:
    return Pair(tmp_path, keys)


def test_a_model_travels_by_digest_and_a_round_comes_back(pair: Pair) -> None:
    assert pair.fetch_base() == pair.base
    pair.start_round()
    finished = pair.participant.train(1, pair.base)
    assert finished is not None
    opened = pair.deliver(finished)
    assert (opened.update_id, opened.round, opened.base, opened.refusal) == (finished.update_id, 1, pair.base, "")
    pair.leader.count(opened.handle)
    receipt = pair.answered(pair.leader.answer(opened.handle, accepted=True, reason=""))
    assert isinstance(receipt, OpenedReceipt)
    assert receipt.receipt.accepted
    assert receipt.leader_key_id == pair.announcement.key_id
    candidate = pair.leader.aggregate()
    body = pair.leader.seal_candidate(candidate)
    assert pair.participant.store_candidate(body, receipt.receipt.round_key, candidate) == candidate
    kept = pair.updates.get()
    assert isinstance(kept, KeptUpdate)
    assert pair.models.get(candidate) == kept.weights, "the average of one update is that update"
    pair.participant.forget(b"another one's id", 1)
    assert isinstance(pair.updates.get(), KeptUpdate)
    pair.participant.forget(finished.update_id, 1)
    assert not isinstance(pair.updates.get(), KeptUpdate)


def test_a_bad_update_is_refused_with_a_reason_and_another_still_counts(pair: Pair) -> None:
    pair.fetch_base()
    good = pair.models.get(pair.base)
    assert isinstance(good, bytes)
    arrays = {name: array.copy() for name, array in parse(good, pair.layout).items()}
    arrays[next(iter(arrays))].flat[0] = np.nan
    pair.start_round()
    for weights, samples, reason in (
        (serialise(arrays, pair.layout), 10, "not finite"),
        (b"rubbish", 10, ""),
        (good, 0, "at least|1 to"),
    ):
        opened = pair.deliver(pair.keep(weights, samples))
        assert opened.refusal
        assert not reason or any(part in opened.refusal for part in reason.split("|"))
        assert pair.leader.answer(opened.handle, accepted=False, reason=opened.refusal) is not None
    opened = pair.deliver(pair.keep(good))
    pair.leader.count(opened.handle)
    assert pair.leader.aggregate() == pair.base


def test_an_update_of_a_term_that_has_ended_makes_no_model(pair: Pair) -> None:
    pair.fetch_base()
    good = pair.models.get(pair.base)
    assert isinstance(good, bytes)
    pair.start_round()
    sealed = pair.participant.seal_update(pair.keep(good).update_id, pair.announcement, pair.token_key, "float32")
    opened = pair.deliver(pair.keep(good))
    assert sealed is not None
    pair.leader.end()
    with pytest.raises(RemoteError):
        pair.leader.open(sealed.envelope)
    pair.announce(2)
    pair.start_round(term=2)
    with pytest.raises(ApplianceError, match="not here any more"):
        pair.leader.count(opened.handle)
    assert pair.leader.answer(opened.handle, accepted=True, reason="") is None
    with pytest.raises(ApplianceError):
        pair.leader.aggregate()


def test_an_answer_is_opened_once(pair: Pair) -> None:
    request = pair.leader.open(pair.participant.seal_request(pair.base, pair.announcement).envelope)
    assert isinstance(request, ModelRequest)
    sealed = pair.leader.serve(request)
    pair.answered(sealed)
    with pytest.raises(RemoteError, match="used already"):
        pair.answered(sealed)


def test_a_model_that_is_not_what_was_asked_for_is_never_stored(pair: Pair) -> None:
    body = pair.leader.seal_candidate(pair.base)
    with pytest.raises(RemoteError):
        pair.participant.store_candidate(body, secrets.token_bytes(32), pair.base)
    assert pair.models.digests() == frozenset()


def test_training_stops_when_asked_and_without_its_base_says_so(pair: Pair) -> None:
    with pytest.raises(ApplianceError, match="base model is not here"):
        pair.participant.train(1, pair.base)
    pair.fetch_base()
    pair.participant.stop()
    assert pair.participant.train(1, pair.base) is None
    pair.participant.may_train()
    assert pair.participant.train(1, pair.base) is not None


def changed(pair: Pair, change: Callable[[Array], Array]) -> bytes:
    """Return the base with each of its tensors changed."""
    base = pair.leader_models.get(pair.base)
    assert isinstance(base, bytes)
    return serialise({name: change(array) for name, array in parse(base, pair.layout).items()}, pair.layout)


def count(pair: Pair, *updates: bytes, samples: int = 10) -> None:
    for weights in updates:
        opened = pair.deliver(pair.keep(weights, samples))
        assert opened.refusal == ""
        pair.leader.count(opened.handle)
        assert pair.leader.answer(opened.handle, accepted=True, reason="") is not None


@pytest.mark.parametrize("strategy", ["median", "trimmed-mean", "norm-clipping"])
def test_the_configured_strategy_bears_an_attacker(
    tmp_path: Path, keys: KeyPool, strategy: Literal["median", "trimmed-mean", "norm-clipping"]
) -> None:
    pair = Pair(tmp_path, keys, Aggregation(strategy))
    pair.start_round()
    honest = changed(pair, lambda array: array + np.float32(0.5))
    hostile = changed(pair, lambda array: array - np.float32(1e30))
    count(pair, honest, hostile, honest)
    model = pair.leader_models.get(pair.leader.aggregate())
    assert isinstance(model, bytes)
    expected = parse(honest, pair.layout)
    most = 1.0 if strategy == "norm-clipping" else 0.0
    for name, array in parse(model, pair.layout).items():
        assert np.abs(array - expected[name]).max() <= most


def test_each_round_begins_with_no_updates_and_the_last_ones_are_dropped(tmp_path: Path, keys: KeyPool) -> None:
    pair = Pair(tmp_path, keys, Aggregation("median"))
    for step in (0.5, 1.5):
        update = changed(pair, lambda array, step=step: array + np.float32(step))  # type: ignore[misc]
        pair.start_round()
        count(pair, update, update, update)
        assert pair.leader_models.get(pair.leader.aggregate()) == update
        with pytest.raises(ApplianceError):
            pair.leader.aggregate()


def test_too_few_updates_for_the_strategy_never_make_a_model(tmp_path: Path, keys: KeyPool) -> None:
    pair = Pair(tmp_path, keys, Aggregation("median"))
    pair.start_round()
    count(pair, *[changed(pair, lambda array: array)] * 2)
    with pytest.raises(ValueError, match="needs 3"):
        pair.leader.aggregate()


def test_a_round_whose_base_the_strategy_lacks_makes_no_model(tmp_path: Path, keys: KeyPool) -> None:
    pair = Pair(tmp_path, keys, Aggregation("norm-clipping"))
    update = changed(pair, lambda array: array)
    pair.start_round()
    pair.leader_models.remove({pair.base})
    with pytest.raises(ApplianceError, match="not here"):
        pair.leader.start_round(2, pair.base, "float32")
    opened = pair.deliver(pair.keep(update))
    with pytest.raises(ApplianceError, match="could not begin"):
        pair.leader.count(opened.handle)
    with pytest.raises(ApplianceError, match="could not begin"):
        pair.leader.aggregate()


def test_more_samples_than_the_configuration_allows_are_refused(tmp_path: Path, keys: KeyPool) -> None:
    pair = Pair(tmp_path, keys, Aggregation(most_samples=100))
    pair.start_round()
    update = changed(pair, lambda array: array)
    assert pair.deliver(pair.keep(update, 100)).refusal == ""
    assert pair.deliver(pair.keep(update, 101)).refusal == "an update must stand for 1 to 100 samples, not 101"


def test_an_update_with_another_rounds_token_or_none_has_no_token(pair: Pair) -> None:
    pair.fetch_base()
    good = pair.models.get(pair.base)
    assert isinstance(good, bytes)
    pair.start_round()
    kept = pair.keep(good)
    assert pair.deliver(kept).token
    pair.leader.start_round(1, pair.base, "float32")
    opened = pair.deliver(kept)
    assert opened.token == b""
    assert "not the leader's of this round" in opened.refusal
    assert pair.participant.seal_update(kept.update_id, pair.announcement, b"another token key", "float32") is None
    pair.leader.end()
    with pytest.raises(RemoteError, match="no round is open"):
        pair.leader.sign_token("node1", bytes(256))


# --- encodings -------------------------------------------------------------------------------------------------------


def sent(pair: Pair, update: FinishedUpdate) -> dict[str, Array]:
    """Deliver an update that is to count; return what the strategy is given of it."""
    opened = pair.deliver(update)
    assert opened.refusal == ""
    arrays = pair.leader._opened[opened.handle].arrays
    assert arrays is not None
    pair.leader.count(opened.handle)
    receipt = pair.answered(pair.leader.answer(opened.handle, accepted=True, reason=""))
    assert isinstance(receipt, OpenedReceipt)
    return dict(arrays)


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
        for name in ("write_atomically", "replace_durably", "remove_durably"):
            patched.setattr(models, name, dying(getattr(models, name)))
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
    pair.residuals.put_next(Residual(bytes(16), 1, weights))
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
        patched.setattr(models, "write_atomically", full)
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
    int8.models.remove({int8.base})
    with pytest.raises(ApplianceError, match="base model is not here"):
        int8.participant.seal_update(update.update_id, int8.announcement, int8.token_key, "int8")
    int8.encoding = "float32"
    int8.start_round()
    sent(int8, update)


def test_a_leader_without_the_base_opens_no_round_with_differences_to_it(int8: Pair) -> None:
    int8.leader_models.remove({int8.base})
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
