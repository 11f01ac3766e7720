"""What the aggregator's thread does: opens envelopes, checks and counts updates, makes candidates, seals answers.

Everything here runs on that one thread, so it needs no lock; the keys and arrays of a term live and end here.
"""

import functools
import itertools
from dataclasses import dataclass

from appliance.aggregation.encoding import decode
from appliance.aggregation.state import parse_model, serialise_model
from appliance.aggregation.strategies import strategy_for
from appliance.aggregation.strategy import Strategy
from appliance.aggregation.tensors import Arrays
from appliance.aggregation.validation import check_samples
from appliance.delivery.padding import unpad
from appliance.envelopes.format import Kind
from appliance.envelopes.keys import PrivateKey, RecipientKey, Suite, load_recipient, public_der
from appliance.envelopes.pool import KeyPool
from appliance.envelopes.seal import open_envelope, seal, seal_under_key
from appliance.rounds.collected import Judged, OpenedUpdate
from appliance.storage.checked import Absent
from appliance.storage.models import ModelStore
from appliance.tokens.mint import Mint
from appliance.tokens.token import Token
from appliance.training.trainer import Trainer
from appliance.words.errors import ApplianceError, RemoteError
from appliance.words.ids import Digest, NodeName, Round, Term
from appliance.words.messages import (
    ModelReply,
    ModelRequest,
    Receipt,
    Sealed,
    TokenSigned,
    ToParticipant,
    Update,
    decode_to_leader,
    encode,
)
from appliance.words.models import Encoding, Metrics
from appliance.words.random import RandomBytes
from appliance.words.settings import Aggregation

ROUND_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class _Opened:
    """An update between its opening and its receipt."""

    update: Update
    arrays: Arrays | None


class AggregatorWork:
    """The leader's secrets and updates. ``begin`` starts a term, ``end`` drops all that belongs to it."""

    def __init__(
        self,
        trainer: Trainer,
        models: ModelStore,
        keys: KeyPool,
        random: RandomBytes,
        settings: Aggregation,
        *,
        suite: Suite = "rsa",
    ) -> None:
        self._trainer = trainer
        self._models = models
        self._keys = keys
        self._random = random
        self._settings = settings
        self._suite = suite
        self._handles = itertools.count(1)
        self._term: Term = 0
        self._round: Round = 0
        self._private_key: PrivateKey | None = None
        self._round_key = random(ROUND_KEY_BYTES)
        self._mint: Mint | None = None
        self._strategy: Strategy | None = None
        self._encoding: Encoding = "float32"
        self._base_arrays: Arrays = {}
        self._opened: dict[int, _Opened] = {}
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
        self._opened.clear()
        self._round = 0
        self._mint = self._strategy = self._base = None
        self._base_arrays, self._judged = {}, {}
        self._round_key = self._random(ROUND_KEY_BYTES)

    def start_round(self, round_: Round, base: Digest, encoding: Encoding) -> bytes:
        """Begin with no update counted, and fresh keys for the round's candidate and tokens; return the tokens' key.

        Its updates are trained on ``base``, and encoded as ``encoding`` says.

        Raises:
            ApplianceError: strategy or encoding need the base model, and it is not here; then nothing is aggregated.
        """
        self._round = round_
        self._round_key = self._random(ROUND_KEY_BYTES)
        self._strategy = None
        layout = self._trainer.layout
        base_arrays = functools.cache(lambda: parse_model(self._read(base), layout))
        self._base, self._encoding = base, encoding
        self._base_arrays = {} if encoding == "float32" else base_arrays()
        self._strategy = strategy_for(self._settings, layout, base_arrays)
        token_key = self._keys.take().rsa
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

    def open(self, envelope: bytes) -> OpenedUpdate | ModelRequest:
        """Open an envelope that was sealed to the term's key.

        Raises:
            RemoteError: it can't be opened, or its content is not for a leader.
        """
        if self._private_key is None:
            raise RemoteError("it is sealed to a key that is dropped")
        message = decode_to_leader(unpad(open_envelope(envelope, self._private_key)))
        load_recipient(message.reply_key, self._suite)
        if isinstance(message, ModelRequest):
            return message
        return self._check(message)

    def _check(self, update: Update) -> OpenedUpdate:
        handle = next(self._handles)
        arrays, refusal, token = None, "", b""
        try:
            token = self._check_token(update)
            check_samples(update.samples, self._settings.most_samples)
            if update.encoding != self._encoding:
                raise RemoteError(f"it is encoded as {update.encoding}, and this round takes {self._encoding}")
            arrays = decode(update.weights, self._base_arrays, self._trainer.layout, self._encoding)
        except RemoteError as error:
            refusal = error.reason
        self._opened[handle] = _Opened(update, arrays)
        return OpenedUpdate(handle, update.update_id, token, update.round, update.base, update.samples, refusal)

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
        if opened is None or opened.arrays is None:
            raise ApplianceError("an accepted update is not here any more")
        if strategy is None:
            raise ApplianceError("the round could not begin, or an update before this one could not be counted")
        strategy.add(opened.arrays, opened.update.samples)
        self._strategy = strategy

    def answer(self, handle: int, *, accepted: bool, reason: str) -> Sealed | None:
        """Seal the receipt of an opened update, and forget the update."""
        opened = self._opened.pop(handle, None)
        if opened is None:
            return None
        receipt = Receipt(opened.update.update_id, accepted, reason, self._round_key)
        return _reply(receipt, load_recipient(opened.update.reply_key, self._suite), self._term, self._round)

    def serve(self, request: ModelRequest) -> Sealed | None:
        """Seal a model's bytes for the participant who asked; None if they are not here."""
        return self.seal_model(request.digest, request.reply_key, self._term, self._round)

    def seal_model(self, digest: Digest, reply_key: bytes, term: Term, round_: Round) -> Sealed | None:
        """Seal a model's bytes to a reply key; None if they are not here. On any thread.

        Raises:
            RemoteError: the key is none of the cluster's suite.
        """
        recipient, content = load_recipient(reply_key, self._suite), self._models.get(digest)
        if isinstance(content, Absent):
            return None
        return _reply(ModelReply(digest, content), recipient, term, round_)

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
        return self._models.put(serialise_model(strategy.result(), self._trainer.layout))

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
        content = self._models.get(digest)
        if isinstance(content, Absent):
            raise ApplianceError(f"a model of this round is not here: {content.reason}")
        return content


def _reply(message: ToParticipant, recipient: RecipientKey, term: Term, round_: Round) -> Sealed:
    return Sealed(seal(encode(message), recipient, kind=Kind.TO_PARTICIPANT, term=term, round=round_))
