"""What an update must be before it may count; whoever sent another one is refused with the reason."""

import numpy as np

from appliance.aggregation.tensors import Array, Arrays, parse
from appliance.words.errors import RemoteError
from appliance.words.models import MOST_SAMPLES, ModelLayout


def parse_update(weights: bytes | memoryview, layout: ModelLayout) -> Arrays:
    """Return an update's tensors: read-only float32 views into ``weights``, all finite.

    Raises:
        RemoteError: with a plain reason, if the bytes are no model of this layout or hold NaN or infinity.
    """
    arrays = parse(weights, layout)
    for name, array in arrays.items():
        if not is_finite(array):
            raise RemoteError(f"the tensor {name} holds a value that is not finite")
    return arrays


def check_samples(samples: int, most: int = MOST_SAMPLES) -> None:
    """Raise RemoteError unless an update stands for at least one training sample, and for ``most`` at most."""
    if not 1 <= samples <= most:
        raise RemoteError(f"an update must stand for 1 to {most} samples, not {samples}")


def is_finite(array: Array) -> bool:
    """Tell whether no value is NaN or infinite. Minimum and maximum carry both, and need no array of flags."""
    return array.size == 0 or bool(np.isfinite(array.min()) and np.isfinite(array.max()))
