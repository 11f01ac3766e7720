"""An update that waits for its round to close: sealed, in a file, and opened part by part when it is read."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.aggregation.encoding import Encoded
from appliance.aggregation.numbers import Weights
from appliance.envelopes.format import Header
from appliance.envelopes.reading import PayloadReader
from appliance.storage.spool import Spooled
from appliance.words.errors import RemoteError, StateError
from appliance.words.parts import Content


class SealedUpdate:
    """An update's envelope, which was opened and found right; only what opens it is in memory."""

    def __init__(self, folder: Path, envelope: Content, content_key: bytes, header: Header) -> None:
        """Put the envelope aside. Raises StateError."""
        self._folder = folder
        self._file = Spooled(folder, envelope)
        self._reader = PayloadReader(self._file.read, self._file.size, content_key, header)

    def weights(self, encoded: Encoded, payload: bytes, base: Weights) -> Weights:
        """Return the update's weights, for as long as this is not closed.

        Args:
            encoded: the update, as views into ``payload``; neither is kept.
            payload: of the envelope.
            base: of the round; not looked at if the update is exact.
        """
        beginning = _address(np.frombuffer(payload, np.uint8))

        def move(values: NDArray[Any]) -> _Sealed:
            start = _address(values) - beginning
            if not 0 <= start <= len(payload) - values.nbytes:
                raise AssertionError("the update is no view into its envelope's payload")
            return _Sealed(self, start, values.size, values.dtype)

        return encoded.elsewhere(move).restored(base)

    def read(self, start: int, stop: int) -> bytes:
        """Return a part of the payload. Raises StateError."""
        try:
            return self._reader.read(start, stop)
        except RemoteError:
            # It was authentic when it came: this is no peer's doing.
            raise StateError(f"an update kept in {self._folder} is damaged: check the disk") from None

    def close(self) -> None:
        """Give its space back; no part of it can be read any more."""
        self._file.close()


class _Sealed:
    """The numbers of one tensor."""

    def __init__(self, update: SealedUpdate, start: int, count: int, type_: np.dtype[Any]) -> None:
        """``start``: of the first one, in the payload."""
        self._update = update
        self._start = start
        self._count = count
        self._type = type_

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, part: slice, /) -> NDArray[Any]:
        begin, end = (self._start + place * self._type.itemsize for place in (part.start, part.stop))
        return np.frombuffer(self._update.read(begin, end), self._type)


def _address(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)
