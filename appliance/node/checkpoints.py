"""When the training under way is made durable, and from where the next one goes on. Used in training's thread."""

import logging
import threading
from collections.abc import Callable

from appliance.storage.checked import Absent
from appliance.storage.checkpoints import Checkpoint, CheckpointHeader, CheckpointStore, TrainingId
from appliance.training.checkpoint import TrainingState
from appliance.words.clock import Clock
from appliance.words.errors import StateError
from appliance.words.ids import Monotonic, Round

Tell = Callable[[StateError | None], None]
"""Is told why the checkpoint could not be written, read or removed; None: it was written."""

log = logging.getLogger(__name__)


class Checkpoints:
    """The one checkpoint of a node. A disk that fails here never ends a training: it is told, and training goes on."""

    def __init__(self, store: CheckpointStore, clock: Clock) -> None:
        """Read what is there; a damaged file is said and dropped. Raises StateError."""
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._next = Monotonic(0.0)
        self._round: Round | None = None
        found = self._get()
        if found is not None:
            self._round = found.header.training.round

    def find(self, training: TrainingId, tell: Tell) -> TrainingState | None:
        """Return where this very training was left; a checkpoint of another one is dropped."""
        with self._lock:
            try:
                found = self._get()
                if found is not None and found.header.training != training:
                    text = "dropping the checkpoint of round %d: it is of another training"
                    log.info(text, found.header.training.round)
                    self._drop()
                    return None
            except StateError as error:
                tell(error)
                return None
        return None if found is None else TrainingState(found.header.epoch, found.header.batches, found.tensors)

    def schedule(self, after_s: float) -> None:
        """The next one is due so many seconds from now."""
        self._next = Monotonic(self._clock() + after_s)

    @property
    def is_due(self) -> bool:
        """Tell whether it is time for the next one."""
        return self._clock() >= self._next

    def save(self, training: TrainingId, state: TrainingState, tell: Tell) -> None:
        """Make the state durable."""
        header = CheckpointHeader(training, state.epoch, state.batches)
        with self._lock:
            try:
                self._store.put(Checkpoint(header, state.tensors))
            except StateError as error:
                tell(error)
                return
            self._round = training.round
        tell(None)

    def has(self, round_: Round) -> bool:
        """Tell whether there is one for this round, or for one before it."""
        return self._round is not None and self._round <= round_

    def drop(self, round_: Round, tell: Tell) -> None:
        """Remove one for this round, or for one before it: it is of no use any more."""
        with self._lock:
            try:
                if self.has(round_):
                    self._drop()
            except StateError as error:
                tell(error)

    def _get(self) -> Checkpoint | None:
        found = self._store.get()
        if not isinstance(found, Absent):
            return found
        self._round = None
        if found.damaged:
            log.warning("%s", found.reason)
        return None

    def _drop(self) -> None:
        self._store.drop()
        self._round = None
