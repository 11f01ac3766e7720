"""The work of both threads, joined without a network: what a participant seals, an aggregator opens, and back."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from appliance.aggregation.state import parse_model
from appliance.aggregation.tensors import Array, parse, serialise
from appliance.envelopes.format import parse_header
from appliance.envelopes.pool import KeyPool
from appliance.node.aggregator_work import AggregatorWork
from appliance.node.checkpoints import Checkpoints
from appliance.node.encoder import Encoder
from appliance.node.outlets import ignore
from appliance.node.participant_work import OpenedReceipt, ParticipantWork
from appliance.rounds.collected import OpenedUpdate
from appliance.rounds.participant import FinishedUpdate
from appliance.storage.checkpoints import CheckpointStore
from appliance.storage.models import KeptUpdate, ModelStore, ResidualStore, UpdateStore
from appliance.tokens.wallet import Wallet
from appliance.training import datasets
from appliance.training.images import AnnTask
from appliance.training.trainer import Trainer
from appliance.words.clock import system_clock
from appliance.words.errors import ApplianceError, RemoteError
from appliance.words.ids import Digest
from appliance.words.messages import Announcement, ModelRequest, Sealed
from appliance.words.models import Encoding, Metrics
from appliance.words.settings import SERVER_OPTIMIZERS, Aggregation, Data, StrategyName, Training

MEAN = Aggregation()


class Pair:
    """A leader's and a participant's work, each with its own disk."""

    def __init__(
        self, folder: Path, keys: KeyPool, settings: Aggregation = MEAN, encoding: Encoding = "float32"
    ) -> None:
        trainer = Trainer(Training(), AnnTask(datasets.load(Data(shards=20), folder / "data")))
        self.layout = trainer.layout
        self.keys, self.trainer, self.encoding = keys, trainer, encoding
        self.leader_models, self.models = ModelStore(folder / "leader"), ModelStore(folder / "models")
        self.folder = folder / "update"
        self.updates, self.residuals = UpdateStore(folder / "update"), ResidualStore(folder / "update")
        self.leader = self.leading(settings)
        self.checkpoints = CheckpointStore(folder / "training")
        self.wallet = Wallet(secrets.token_bytes(32))
        self.participant = self.restarted()
        self.token_key = b""
        self.base = self.leader.create_initial_model()
        self.announce(1)

    def leading(self, settings: Aggregation) -> AggregatorWork:
        """Return the leader's work as it begins."""
        collected = self.folder / "collected"
        return AggregatorWork(
            self.trainer, self.leader_models, self.keys, secrets.token_bytes, settings, folder=collected
        )

    def restarted(self) -> ParticipantWork:
        """Return the participant's work as it begins, with what is on its disk."""
        return ParticipantWork(
            self.trainer,
            self.models,
            self.updates,
            self.keys,
            secrets.token_bytes,
            encoder=Encoder(self.layout, self.models, self.residuals),
            checkpoints=Checkpoints(self.checkpoints, system_clock),
            training=Training(),
            wallet=self.wallet,
        )

    def announce(self, term: int) -> None:
        key_id, public_key = self.leader.begin(term)
        self.announcement = Announcement(cluster="c", leader="node0", term=term, key_id=key_id, public_key=public_key)

    def elect(self, term: int, settings: Aggregation) -> None:
        """Let a node lead that has done nothing yet, and has of all that was before only the base model's bytes."""
        content = self.leader_models.get(self.base)
        assert isinstance(content, bytes)
        self.leader_models = ModelStore(self.folder / f"leader{term}")
        assert self.leader_models.put(content) == self.base
        self.leader = self.leading(settings)
        self.announce(term)

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
        self.updates.put(KeptUpdate(update_id, 1, self.base, samples, Metrics(0.5, 1.0, 10), memoryview(weights)))
        return FinishedUpdate(update_id, 1, self.base)


@pytest.fixture
def pair(tmp_path: Path, keys: KeyPool) -> Pair:
    return Pair(tmp_path, keys)


def test_a_model_travels_by_digest_and_a_round_comes_back(pair: Pair) -> None:
    assert pair.fetch_base() == pair.base
    pair.start_round()
    finished = pair.participant.train(1, pair.base, ignore)
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
    assert pair.models.get(candidate) == bytes(kept.weights), "the average of one update is that update"
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
        pair.participant.train(1, pair.base, ignore)
    pair.fetch_base()
    pair.participant.stop()
    assert pair.participant.train(1, pair.base, ignore) is None
    pair.participant.may_train()
    assert pair.participant.train(1, pair.base, ignore) is not None


def changed(pair: Pair, change: Callable[[Array], Array]) -> bytes:
    """Return the base with each of its tensors changed."""
    base = pair.leader_models.get(pair.base)
    assert isinstance(base, bytes)
    arrays = parse_model(base, pair.layout)
    return serialise({tensor.name: change(arrays[tensor.name]) for tensor in pair.layout}, pair.layout)


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
    pair.leader_models.doom({pair.base})
    pair.leader_models.sweep()
    with pytest.raises(ApplianceError, match="not here"):
        pair.leader.start_round(2, pair.base, "float32")
    opened = pair.deliver(pair.keep(update))
    with pytest.raises(ApplianceError, match="could not begin"):
        pair.leader.count(opened.handle)
    with pytest.raises(ApplianceError, match="could not begin"):
        pair.leader.aggregate()


def test_a_candidate_is_judged_beside_its_base_unless_all_are_published(tmp_path: Path, keys: KeyPool) -> None:
    pair = Pair(tmp_path / "guarded", keys)
    assert pair.leader.judge(pair.base).base is None, "the first model follows none"
    pair.start_round()
    update = changed(pair, lambda array: -array)
    count(pair, update)
    judged = pair.leader.judge(pair.leader.aggregate())
    assert judged.base == pair.leader.judge(pair.base).metrics
    assert judged.metrics != judged.base
    # The next round's base is judged here too, whoever led when it was committed.
    pair.leader.end()
    pair.announce(2)
    pair.leader.start_round(2, judged.digest, "float32")
    assert pair.leader.judge(pair.base).base == judged.metrics
    free = Pair(tmp_path / "free", keys, Aggregation(most_drop=1))
    free.start_round()
    assert free.leader.judge(free.base).base is None


def test_a_former_model_is_brought_back_only_if_it_is_whole(pair: Pair) -> None:
    assert pair.leader.bring_back(pair.base) == pair.base
    [file] = pair.leader_models._folder.glob("*.safetensors")
    file.write_bytes(b"damaged")
    with pytest.raises(ApplianceError, match="did not hold what its name says"):
        pair.leader.bring_back(pair.base)


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


def commit(pair: Pair, term: int, step: float) -> bytes:
    """Do a round of three updates, ``step`` further than the base; return the new model's bytes."""
    pair.start_round(term)
    count(pair, *[changed(pair, lambda array: array + np.float32(step))] * 3)
    pair.base = pair.leader.aggregate()
    pair.leader.judge(pair.base)
    model = pair.leader_models.get(pair.base)
    assert isinstance(model, bytes)
    return model


@pytest.mark.parametrize("strategy", SERVER_OPTIMIZERS)
def test_a_strategys_state_survives_its_leader(
    tmp_path: Path, keys: KeyPool, strategy: Literal["fedavgm", "fedadam", "fedyogi"]
) -> None:
    """Whether one node led all the rounds or each another one, the models are the same bit for bit."""
    steps, settings = [0.1, -0.2, 0.05, 0.0], Aggregation(strategy)
    one, many = Pair(tmp_path / "one", keys, settings), Pair(tmp_path / "many", keys, settings)
    assert one.base == many.base
    expected = [commit(one, 1, step) for step in steps]
    for term, step in enumerate(steps, start=2):
        many.elect(term, settings)
        assert commit(many, term, step) == expected[term - 2]
    last, before = (parse_model(content, one.layout) for content in (expected[3], expected[2]))
    assert not np.array_equal(last["output.bias"], before["output.bias"]), "nobody moved in it: only the state did"


def test_leaders_of_different_settings_go_on_from_each_others_models(tmp_path: Path, keys: KeyPool) -> None:
    """As while an operator changes one file after another: each leader reads what was committed, and leaves its own."""
    pair = Pair(tmp_path, keys)
    tensors = len(pair.layout)
    chosen: list[tuple[StrategyName, int]] = [
        *(("fedadam", 3), ("mean", 1), ("fedavgm", 2), ("fedyogi", 3), ("fedadam", 3)),
        *(("norm-clipping", 1), ("fedavgm", 2), ("fedavgm", 2), ("median", 1)),
    ]
    for term, (strategy, times) in enumerate(chosen, start=2):
        pair.elect(term, Aggregation(strategy))
        assert len(parse_model(commit(pair, term, 0.01), pair.layout)) == times * tensors


def test_an_update_that_brings_state_is_refused(tmp_path: Path, keys: KeyPool) -> None:
    pair = Pair(tmp_path, keys, Aggregation("fedadam"))
    model = commit(pair, 1, 0.1)
    pair.start_round()
    assert pair.deliver(pair.keep(model)).refusal == "the model has 18 tensors, and 6 are expected"
