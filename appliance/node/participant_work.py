"""What the participant's thread does: trains, keeps the finished update on disk; and what it seals and opens."""

import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from appliance.delivery.padding import pad, padded_length
from appliance.envelopes.format import Kind
from appliance.envelopes.keys import PrivateKey, RecipientKey, Suite, key_id_of, load_public, load_recipient
from appliance.envelopes.pool import KeyPool
from appliance.envelopes.seal import open_envelope, open_under_key, seal_parts
from appliance.node.checkpoints import Checkpoints, Tell
from appliance.node.encoder import Encoder
from appliance.rounds.participant import FinishedUpdate
from appliance.storage.checked import Absent
from appliance.storage.checkpoints import TrainingId
from appliance.storage.models import KeptUpdate, ModelStore, UpdateStore
from appliance.tokens.token import Token
from appliance.tokens.wallet import Wallet
from appliance.training.checkpoint import TrainingState
from appliance.training.trainer import Trained, Trainer
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.ids import Digest, Round, Term, digest_of
from appliance.words.messages import (
    Announcement,
    ModelReply,
    ModelRequest,
    ModelWanted,
    Receipt,
    Sealed,
    TokenWanted,
    Update,
    decode_to_participant,
    encode,
)
from appliance.words.models import Encoding, Metrics
from appliance.words.parts import Content, encode_parts
from appliance.words.random import RandomBytes
from appliance.words.settings import Training

REPLY_KEYS_HELD = 32

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplyKey:
    """The private half of a reply key, and the leader key that its message was sealed to (empty if to none)."""

    private_key: PrivateKey
    leader_key_id: bytes


@dataclass(frozen=True, slots=True)
class OpenedReceipt:
    """A receipt, and the leader key that its update was sealed to."""

    receipt: Receipt
    leader_key_id: bytes


class ReplyKeys:
    """The reply keys whose answers are still awaited, each good for one answer. Safe to use from several threads."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, ReplyKey] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key_id: object) -> bool:
        return key_id in self._keys

    def hold(self, private_key: PrivateKey, leader_key_id: bytes) -> RecipientKey:
        """Hold a fresh key until its answer comes; return its public half. The oldest of too many is dropped."""
        with self._lock:
            self._keys[private_key.recipient.id] = ReplyKey(private_key, leader_key_id)
            if len(self._keys) > REPLY_KEYS_HELD:
                self._keys.popitem(last=False)
        return private_key.recipient

    def use(self, key_id: bytes) -> ReplyKey | None:
        """Take a key out: its one answer is here."""
        with self._lock:
            return self._keys.pop(key_id, None)


class ParticipantWork:
    """Training and sealing. ``train`` runs for long; ``stop`` and ``pause`` end it early from another thread."""

    def __init__(
        self,
        trainer: Trainer,
        models: ModelStore,
        updates: UpdateStore,
        keys: KeyPool,
        random: RandomBytes,
        *,
        encoder: Encoder,
        checkpoints: Checkpoints,
        training: Training,
        wallet: Wallet,
        suite: Suite = "rsa",
    ) -> None:
        self._trainer = trainer
        self._models = models
        self._updates = updates
        self._encoder = encoder
        self._keys = keys
        self._random = random
        self._checkpoints = checkpoints
        self._training = training
        self._wallet = wallet
        self._suite = suite
        self._token: tuple[bytes, Token] | None = None
        self._stop = threading.Event()
        self._pause = threading.Event()
        self._is_over = False
        self._keeping = threading.Lock()
        self.reply_keys = ReplyKeys()
        self.steps = 0
        """Mini-batches trained, and trainings begun, since the start: what tells that training is not stuck."""
        self.progress = 0.0
        """Share of the training under way that is done, 0 to 1."""
        self.latest: tuple[Round, int, Metrics] | None = None
        """Round, samples and metrics of the newest finished update of this process."""

    def set_training(self, settings: Training) -> None:
        """Train by these settings from the next training on."""
        self._training = settings

    def stop(self) -> None:
        """End the training under way: its round is over."""
        self._is_over = True
        self._stop.set()

    def pause(self) -> None:
        """End the training under way after a checkpoint, from which it can go on."""
        self._pause.set()

    def train(self, round_: Round, base: Digest, tell: Tell) -> FinishedUpdate | None:
        """Train on the base model and make the update durable; None if it was stopped or paused.

        Args:
            tell: is told, in this thread, how it goes with the checkpoint.

        Raises:
            ApplianceError: the base is not on disk, or the update can't be kept.
        """
        self.steps += 1
        trained = self._train(round_, base, tell)
        if trained is None:
            return None
        record = KeptUpdate(
            update_id=self._random(16),
            round=round_,
            base=base,
            samples=trained.samples,
            metrics=trained.metrics,
            weights=memoryview(trained.weights),
        )
        with self._keeping:
            self._updates.put(record)
        self._checkpoints.drop(round_, tell)
        self.latest = record.round, record.samples, record.metrics
        return FinishedUpdate(record.update_id, record.round, record.base)

    def _train(self, round_: Round, base: Digest, tell: Tell) -> Trained | None:
        settings = self._training  # another thread may set others meanwhile
        self._trainer.set_settings(settings)
        training = TrainingId(round_, base, self._trainer.origin)
        resume = self._checkpoints.find(training, tell) if settings.checkpoint_s else None
        if resume is not None:
            log.info("training for round %d goes on from its checkpoint", round_, extra={"round": round_})
        self._checkpoints.schedule(settings.checkpoint_s)
        try:
            trained = self._trainer.train(
                self._models.need(base, "the base model"),
                round=round_,
                stop=self._stop,
                progress=self._note_progress,
                resume=resume,
                checkpoint=functools.partial(self._after_batch, training, settings.checkpoint_s, tell),
            )
        except (OperatorError, RemoteError):
            self._checkpoints.drop(round_, tell)  # it is tried again, and must not fail by the same state for ever
            raise
        if trained is None and self._is_over:
            self._checkpoints.drop(round_, tell)
        return trained

    def may_train(self) -> None:
        """Clear an earlier stop: what is submitted from now on is meant."""
        self._is_over = False
        self._stop.clear()
        self._pause.clear()
        self.progress = 0.0

    def _after_batch(
        self, training: TrainingId, every_s: float, tell: Tell, capture: Callable[[], TrainingState]
    ) -> None:
        pauses = self._pause.is_set()
        if every_s and not self._stop.is_set() and (pauses or self._checkpoints.is_due):
            self._checkpoints.save(training, capture(), tell)
            # From the end of this one on: a slow disk must not take up all of training's time.
            self._checkpoints.schedule(every_s)
        if pauses:
            self._stop.set()

    def has_checkpoint(self, round_: Round) -> bool:
        """Tell whether there is a checkpoint for this round, or for one before it."""
        return self._checkpoints.has(round_)

    def drop_checkpoint(self, round_: Round, tell: Tell) -> None:
        """This round is over, and so are those before it."""
        self._checkpoints.drop(round_, tell)

    def _note_progress(self, epoch: int, share: float) -> None:
        self.steps += 1
        self.progress = min(1.0, (epoch + share) / self._trainer.epochs)

    def forget(self, update_id: bytes, term: Term | None) -> None:
        """Remove the kept update if it is still that one: the next may have been finished meanwhile.

        Its round is committed, by the leader of ``term``, or nobody knows whose. What its encoding lost is settled
        first: while the update is there, all of this is done again after a crash.
        """
        self._encoder.settle(update_id, term)
        with self._keeping:
            record = self._updates.get()
            if not isinstance(record, Absent) and record.update_id == update_id:
                self._updates.drop()

    def ask_token(self, term: Term, round_: Round, token_key: bytes) -> TokenWanted:
        """Return what asks for this node's token of a round. Raises RemoteError if the token key is none."""
        return TokenWanted(term, round_, self._wallet.ask(load_public(token_key), key_id_of(token_key)))

    def take_token(self, token_key: bytes, signature: bytes) -> None:
        """Keep the token that the leader signed. Raises RemoteError if it is none."""
        self._token = token_key, self._wallet.take(load_public(token_key), key_id_of(token_key), signature)

    def seal_update(
        self, update_id: bytes, announcement: Announcement, token_key: bytes, encoding: Encoding
    ) -> Sealed | None:
        """Seal the kept update to the leader, encoded as the round takes it, with the round's token and a fresh reply
        key in it; None if it is not kept any more, or the token is of another round by now.

        Raises:
            ApplianceError: the encoding needs the base model, and it is not here.
        """
        record, token = self._updates.get(), self._token
        if isinstance(record, Absent) or record.update_id != update_id or token is None or token[0] != token_key:
            return None
        weights = self._encoder.encode(record, encoding, announcement)
        reply_to = self.reply_keys.hold(self._keys.take_reply_key(), announcement.key_id)
        update = Update(
            update_id=record.update_id,
            nonce=token[1].nonce,
            token=token[1].signature,
            round=record.round,
            base=record.base,
            samples=record.samples,
            metrics=record.metrics,
            reply_key=reply_to.encoding,
            reply_secret=reply_to.secret,
            encoding=encoding,
            weights=weights,
        )
        content = pad(padded_length(len(weights)), *encode_parts(update))
        return self._seal(content, announcement, record.round)

    def seal_request(self, digest: Digest, announcement: Announcement) -> Sealed:
        """Seal a request for a model's bytes to the leader."""
        reply_to = self.reply_keys.hold(self._keys.take_reply_key(), announcement.key_id)
        request = ModelRequest(digest, reply_to.encoding, reply_to.secret)
        return self._seal(pad(padded_length(0), encode(request)), announcement, 0)

    def want_model(self, digest: Digest) -> ModelWanted:
        """Ask in the open for a committed model's bytes, to be sealed to a fresh key: for a leader that lacks them.

        A secret could not be sent with it, so this one is a long key.
        """
        return ModelWanted(digest, self.reply_keys.hold(self._keys.take(), b"").encoding)

    def _seal(self, content: Sequence[Content], announcement: Announcement, round_: Round) -> Sealed:
        recipient = load_recipient(announcement.public_key, self._suite)
        envelope = seal_parts(content, recipient, kind=Kind.TO_LEADER, term=announcement.term, round=round_)
        return Sealed(memoryview(envelope))

    def open_answer(self, envelope: Content, key_id: bytes) -> OpenedReceipt | Digest:
        """Open an answer; a model in it is made durable and named by its digest.

        Raises:
            RemoteError: it can't be opened, or the model is not the one that its digest names.
        """
        reply_key = self.reply_keys.use(key_id)
        if reply_key is None:
            raise RemoteError("it is sealed to a reply key that was used already")
        message = decode_to_participant(open_envelope(envelope, reply_key.private_key))
        if isinstance(message, ModelReply):
            return self._store(message.weights, message.digest)
        if message.accepted:
            self._encoder.accepted(message.update_id, reply_key.leader_key_id)
        return OpenedReceipt(message, reply_key.leader_key_id)

    def store_candidate(self, body: Content, round_key: bytes, digest: Digest) -> Digest:
        """Open a candidate's bytes with the round key and make them durable.

        Raises:
            RemoteError: they can't be opened, or are not what the digest names.
        """
        return self._store(open_under_key(body, round_key), digest)

    def _store(self, content: bytes | memoryview, digest: Digest) -> Digest:
        if digest_of(content) != digest:
            raise RemoteError("the model's bytes are not what its digest names")
        return self._models.put(content)
