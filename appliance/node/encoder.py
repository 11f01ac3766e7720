"""Encodes the kept update as a round takes it, and keeps what that loses for the next one (error feedback)."""

import logging
import threading
from dataclasses import dataclass

from appliance.aggregation.encoding import encode
from appliance.aggregation.state import parse_model
from appliance.aggregation.tensors import Arrays, parse, serialise
from appliance.aggregation.validation import parse_update
from appliance.storage.checked import Absent
from appliance.storage.models import KeptUpdate, ModelStore, Residual, ResidualStore
from appliance.words.errors import RemoteError, StateError
from appliance.words.ids import Term
from appliance.words.messages import Announcement
from appliance.words.models import Encoding, ModelLayout

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sealed:
    """What was encoded last, for which leader, and what that lost."""

    update_id: bytes
    key_id: bytes
    term: Term
    lost: Arrays


class Encoder:
    """One node's encoding. Safe to use from several threads.

    The residual on disk changes at one moment only: when a round is committed by a leader that had accepted this node's
    update. Until then the same update has the same values for every leader, whatever dies in between; one that was
    refused or came too late leaves no trace. An update counts as not accepted if its receipt never came.

    No fault of the residual keeps a node from training: it is said in the log, and one round is a little less exact.
    """

    def __init__(self, layout: ModelLayout, models: ModelStore, residuals: ResidualStore) -> None:
        self._layout = layout
        self._models = models
        self._residuals = residuals
        self._lock = threading.Lock()
        self._sealed: _Sealed | None = None

    def encode(self, update: KeptUpdate, encoding: Encoding, announcement: Announcement) -> memoryview:
        """Return the bytes of an update for the leader that announced this key.

        Raises:
            ApplianceError: the base model is not here; StateError: it can't be read.
        """
        if encoding == "float32":
            return update.weights
        base = parse_model(self._models.need(update.base, "the base model"), self._layout)
        with self._lock:
            content, lost = encode(parse(update.weights, self._layout), base, self._layout, encoding, self._residual())
            if lost is not None:
                self._sealed = _Sealed(update.update_id, announcement.key_id, announcement.term, lost)
        return memoryview(content)

    def accepted(self, update_id: bytes, key_id: bytes) -> None:
        """The leader with this key has accepted an update: make durable what its encoding lost, beside what holds."""
        with self._lock:
            sealed = self._sealed
            if sealed is None or (sealed.update_id, sealed.key_id) != (update_id, key_id):
                return
            residual = Residual(update_id, sealed.term, memoryview(serialise(sealed.lost, self._layout)))
            try:
                self._residuals.put_next(residual)
            except StateError as error:
                log.warning("what the update lost by its encoding can't be kept: %s", error)

    def settle(self, update_id: bytes, term: Term | None) -> None:
        """An update's round is committed by the leader of ``term``: what the update lost holds now, if it counted."""
        with self._lock:
            self._sealed = None
            try:
                found = self._residuals.settle(update_id, term)
            except StateError as error:
                log.warning("what the update lost by its encoding can't be kept: %s", error)
            else:
                if found is not None:
                    log.warning("%s", found.reason)

    def _residual(self) -> Arrays | None:
        try:
            found = self._residuals.get()
            if isinstance(found, Absent):
                if found.damaged:
                    log.warning("%s", found.reason)
                return None
            try:
                return parse_update(found.weights, self._layout)
            except RemoteError as error:
                log.warning("the residual of earlier updates is of no use and is dropped: %s", error.reason)
                self._residuals.drop()
        except StateError as error:
            log.warning("the residual of earlier updates is left out: %s", error)
        return None
