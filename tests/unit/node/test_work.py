"""The work of both threads, joined without a network: what a participant seals, an aggregator opens, and back."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from appliance.aggregation.tensors import parse, serialise
from appliance.envelopes.format import parse_header
from appliance.envelopes.pool import KeyPool
from appliance.node.aggregator_work import AggregatorWork
from appliance.node.participant_work import OpenedReceipt, ParticipantWork
from appliance.rounds.collected import OpenedUpdate
from appliance.rounds.participant import FinishedUpdate
from appliance.storage.models import KeptUpdate, ModelStore, UpdateStore
from appliance.training import datasets
from appliance.training.trainer import Trainer
from appliance.words.errors import ApplianceError, RemoteError
from appliance.words.ids import Digest
from appliance.words.messages import Announcement, ModelRequest, Sealed
from appliance.words.models import Metrics
from appliance.words.settings import Data, Training


class Pair:
    """A leader's and a participant's work, each with its own disk."""

    def __init__(self, folder: Path, keys: KeyPool) -> None:
        trainer = Trainer(Training(), datasets.load(Data(shards=20), folder / "data"))
        self.layout = trainer.layout
        self.leader_models, self.models = ModelStore(folder / "leader"), ModelStore(folder / "models")
        self.updates = UpdateStore(folder / "update")
        self.leader = AggregatorWork(trainer, self.leader_models, keys, secrets.token_bytes)
        self.participant = ParticipantWork(trainer, self.models, self.updates, keys, secrets.token_bytes)
        self.base = self.leader.create_initial_model()
        self.announce(1)

    def announce(self, term: int) -> None:
        key_id, public_key = self.leader.begin(term)
        self.announcement = Announcement(cluster="c", leader="node0", term=term, key_id=key_id, public_key=public_key)

    def fetch_base(self) -> Digest:
        request = self.leader.open(self.participant.seal_request(self.base, self.announcement).envelope)
        assert isinstance(request, ModelRequest)
        answer = self.answered(self.leader.serve(request))
        assert isinstance(answer, str)
        return answer

    def deliver(self, update: FinishedUpdate) -> OpenedUpdate:
        sealed = self.participant.seal_update(update.update_id, self.announcement)
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
    pair.leader.start_round(1)
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
    pair.participant.forget(b"another one's id")
    assert isinstance(pair.updates.get(), KeptUpdate)
    pair.participant.forget(finished.update_id)
    assert not isinstance(pair.updates.get(), KeptUpdate)


def test_a_bad_update_is_refused_with_a_reason_and_another_still_counts(pair: Pair) -> None:
    pair.fetch_base()
    good = pair.models.get(pair.base)
    assert isinstance(good, bytes)
    arrays = {name: array.copy() for name, array in parse(good, pair.layout).items()}
    arrays[next(iter(arrays))].flat[0] = np.nan
    pair.leader.start_round(1)
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
    sealed = pair.participant.seal_update(pair.keep(good).update_id, pair.announcement)
    opened = pair.deliver(pair.keep(good))
    assert sealed is not None
    pair.leader.end()
    with pytest.raises(RemoteError):
        pair.leader.open(sealed.envelope)
    pair.announce(2)
    pair.leader.start_round(1)
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
