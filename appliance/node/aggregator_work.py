"""What the aggregator's thread does: opens envelopes, checks and counts updates, makes candidates, seals answers.

Everything here runs on that one thread, so it needs no lock; the keys and arrays of a term live and end here.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.aggregation.encoding import check
from appliance.aggregation.numbers import Weights, in_memory
from appliance.aggregation.state import parse_model, serialise_model
from appliance.aggregation.strategies import strategy_for
from appliance.aggregation.strategy import Strategy
from appliance.aggregation.validation import check_samples
from appliance.delivery.padding import unpad
from appliance.envelopes.format import Kind, parse_header
from appliance.envelopes.keys import PrivateKey, RecipientKey, Suite, load_recipient, public_der
from appliance.envelopes.pool import KeyPool
from appliance.envelopes.seal import content_key_of, open_content, seal_parts, seal_under_key
from appliance.node.sealed_update import SealedUpdate
from appliance.rounds.collected import Judged, OpenedUpdate
from appliance.storage.checked import Absent
from appliance.storage.files import open_folder
from appliance.storage.models import ModelStore
from appliance.tokens.mint import Mint
from appliance.tokens.token import Token
from appliance.training.trainer import Trainer
from appliance.words.errors import ApplianceError, RemoteError
from appliance.words.ids import Digest, NodeName, Round, Term
from appliance.words.messages import (
    ModelReply,
    ModelRequest,
    ModelWanted,
    Receipt,
    Sealed,
    TokenSigned,
    ToParticipant,
    Update,
    decode_to_leader,
)
from appliance.words.models import Encoding, Metrics
from appliance.words.parts import Content, encode_parts
from appliance.words.random import RandomBytes
from appliance.words.settings import Aggregation

ROUND_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class _Opened:
    """An update between its opening and its receipt.

    Attributes:
        kept: where it waits, and what will be read of it there; None if it is refused, or counted already.
    """

    update_id: bytes
    samples: int
    reply_to: RecipientKey
    kept: tuple[SealedUpdate, Weights] | None


class AggregatorWork:
    """The leader's secrets and updates. ``begin`` starts a term, ``end`` drops all that belongs to it.

    An update's content is in memory only while it is checked. Then it is kept in ``folder``, sealed as it came, and
    opened again part by part when the round's updates become a model: so each takes a chunk of memory.
    """

    def __init__(
        self,
        trainer: Trainer,
        models: ModelStore,
        keys: KeyPool,
        random: RandomBytes,
        settings: Aggregation,
        *,
        folder: Path,
        suite: Suite = "rsa",
    ) -> None:
        """``folder``: for the updates of a round; made if it is not there."""
        self._trainer = trainer
        self._models = models
        self._keys = keys
        self._random = random
        self._settings = settings
        self._folder = folder
        open_folder(folder)
        self._suite = suite
        self._handles = itertools.count(1)
        self._term: Term = 0
        self._round: Round = 0
        self._private_key: PrivateKey | None = None
        self._round_key = random(ROUND_KEY_BYTES)
        self._mint: Mint | None = None
        self._strategy: Strategy | None = None
        self._encoding: Encoding = "float32"
        self._base_weights: Weights = {}
        self._opened: dict[int, _Opened] = {}
        self._counted: list[SealedUpdate] = []
        self._base: Digest | None = None
        self._judged: dict[Digest, Metrics] = {}

    def begin(self, term: Term) -> tuple[bytes, bytes]:
        """Take a fresh key pair for a term; return its id and its public half."""
        self._term = term
        self._private_key = self._keys.take()
        recipient = self._private_key.recipient
        return recipient.id, recipient.encoding

    def end(self) -> None:
        """Drop the term's keys and updates."""
        self._private_key = None
        for opened in self._opened.values():
            _close(opened)
        self._opened.clear()
        self._drop_updates()
        self._round = 0
        self._mint = self._base = None
        self._base_weights, self._judged = {}, {}
        self._round_key = self._random(ROUND_KEY_BYTES)

    def start_round(self, round_: Round, base: Digest, encoding: Encoding) -> bytes:
        """Begin with no update counted, and fresh keys for the round's candidate and tokens; return the tokens' key.

        Its updates are trained on ``base``, and encoded as ``encoding`` says.

        Raises:
            ApplianceError: strategy or encoding need the base model, and it is not here; then nothing is aggregated.
        """
        self._round = round_
        self._round_key = self._random(ROUND_KEY_BYTES)
        self._drop_updates()
        layout = self._trainer.layout
        base_arrays = functools.cache(lambda: parse_model(self._read(base), layout))
        self._base, self._encoding = base, encoding
        self._base_weights = {} if encoding == "float32" else in_memory(base_arrays())
        self._strategy = strategy_for(self._settings, layout, base_arrays)
        token_key = self._keys.take_token_key()
        self._mint = Mint(token_key, self._random)
        return public_der(token_key)

    def sign_token(self, member: NodeName, blinded: bytes) -> TokenSigned:
        """Sign a member's token of the round.

        Raises:
            RemoteError: it has had another one, or asks for what is none.
        """
        if self._mint is None:
            raise RemoteError("token: no round is open")
        return TokenSigned(self._term, self._round, self._mint.sign(member, blinded))

    def open(self, envelope: Content) -> OpenedUpdate | ModelRequest:
        """Open an envelope that was sealed to the term's key.

        Raises:
            RemoteError: it can't be opened, or its content is not for a leader. StateError: there is no place for it.
        """
        if self._private_key is None:
            raise RemoteError("it is sealed to a key that is dropped")
        header = parse_header(envelope)
        content_key = content_key_of(header, self._private_key)
        payload = open_content(envelope, content_key, header)
        message = decode_to_leader(unpad(payload))
        reply_to = load_recipient(message.reply_key, self._suite, message.reply_secret)
        if isinstance(message, ModelRequest):
            return message
        keep = functools.partial(SealedUpdate, self._folder, envelope, content_key, header)
        return self._check(message, reply_to, payload, keep)

    def _check(
        self, update: Update, reply_to: RecipientKey, payload: bytes, keep: Callable[[], SealedUpdate]
    ) -> OpenedUpdate:
        handle = next(self._handles)
        kept, refusal, token = None, "", b""
        try:
            token = self._check_token(update)
            check_samples(update.samples, self._settings.most_samples)
            if update.encoding != self._encoding:
                raise RemoteError(f"it is encoded as {update.encoding}, and this round takes {self._encoding}")
            encoded = check(update.weights, self._trainer.layout, self._encoding)
            sealed = keep()
            kept = sealed, sealed.weights(encoded, payload, self._base_weights)
        except RemoteError as error:
            refusal = error.reason
        self._opened[handle] = _Opened(update.update_id, update.samples, reply_to, kept)
        return OpenedUpdate(handle, update.update_id, token, update.round, update.base, update.samples, refusal)

    def _drop_updates(self) -> None:
        self._strategy = None
        for sealed in self._counted:
            sealed.close()
        self._counted.clear()

    def _check_token(self, update: Update) -> bytes:
        if self._mint is None:
            raise RemoteError("token: no round is open")
        return self._mint.check(Token(update.nonce, update.token))

    def count(self, handle: int) -> None:
        """Add an opened update to those of the round; if that can't be done, nothing of the round is ever published.

        Raises:
            ApplianceError: the update is not here: it was opened in a term that has ended. Or the round is spoilt.
        """
        strategy, self._strategy = self._strategy, None
        opened = self._opened.get(handle)
        if opened is None or opened.kept is None:
            raise ApplianceError("an accepted update is not here any more")
        if strategy is None:
            raise ApplianceError("the round could not begin, or an update before this one could not be counted")
        sealed, weights = opened.kept
        self._opened[handle] = replace(opened, kept=None)
        self._counted.append(sealed)
        strategy.add(weights, opened.samples)
        self._strategy = strategy

    def answer(self, handle: int, *, accepted: bool, reason: str) -> Sealed | None:
        """Seal the receipt of an opened update, and forget the update."""
        opened = self._opened.pop(handle, None)
        if opened is None:
            return None
        _close(opened)
        receipt = Receipt(opened.update_id, accepted, reason, self._round_key)
        return _reply(receipt, opened.reply_to, self._term, self._round)

    def serve(self, request: ModelRequest) -> Sealed | None:
        """Seal a model's bytes for the participant who asked; None if they are not here."""
        reply_to = load_recipient(request.reply_key, self._suite, request.reply_secret)
        return self._seal_model(request.digest, reply_to, self._term, self._round)

    def supply(self, wanted: ModelWanted, term: Term) -> Sealed | None:
        """Seal a model's bytes for a leader that lacks them; None if they are not here. On any thread.

        Raises:
            RemoteError: its key is none of the cluster's suite.
        """
        return self._seal_model(wanted.digest, load_recipient(wanted.public_key, self._suite), term, 0)

    def _seal_model(self, digest: Digest, recipient: RecipientKey, term: Term, round_: Round) -> Sealed | None:
        content = self._models.get(digest)
        if isinstance(content, Absent):
            return None
        return _reply(ModelReply(digest, memoryview(content)), recipient, term, round_)

    def create_initial_model(self) -> Digest:
        """Make the lineage's first model durable here."""
        return self._models.put(self._trainer.initial_model())

    def aggregate(self) -> Digest:
        """Turn the round's updates into a model, once, and make it durable here.

        Raises:
            ApplianceError: an update that was accepted could not be counted; StateError: the disk.
        """
        strategy, self._strategy = self._strategy, None
        if strategy is None:
            raise ApplianceError("the round could not begin, or an accepted update could not be counted")
        try:
            content = serialise_model(strategy.result(), self._trainer.layout)
        finally:
            self._drop_updates()
        return self._models.put(content)

    def seal_candidate(self, digest: Digest) -> bytes:
        """Seal a candidate's bytes under the round key, for all who have a receipt."""
        return seal_under_key(self._read(digest), self._round_key, term=self._term, round=self._round)

    def bring_back(self, digest: Digest) -> Digest:
        """Make sure that a former model is whole and durable here."""
        return self._models.put(self._read(digest))

    def judge(self, digest: Digest) -> Judged:
        """Judge a model on this node's held-out data, and the round's base, unless all models are published.

        The base too on this node's: an earlier leader may have had other data. Mostly it was judged a round ago.
        """
        metrics, base, known = self._evaluate(digest), None, self._judged
        self._judged = {digest: metrics}
        if self._base is not None and self._settings.most_drop < 1:
            self._judged[self._base] = base = known.get(self._base) or self._evaluate(self._base)
        return Judged(digest, metrics, base)

    def _evaluate(self, digest: Digest) -> Metrics:
        return self._trainer.evaluate(self._read(digest), limit=None)

    def _read(self, digest: Digest) -> bytes:
        return self._models.need(digest, "a model of this round")


def _close(opened: _Opened) -> None:
    if opened.kept is not None:
        opened.kept[0].close()


def _reply(message: ToParticipant, recipient: RecipientKey, term: Term, round_: Round) -> Sealed:
    envelope = seal_parts(encode_parts(message), recipient, kind=Kind.TO_PARTICIPANT, term=term, round=round_)
    return Sealed(memoryview(envelope))
