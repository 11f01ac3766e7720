"""What an update must be before it may count; whoever sent another one is refused with the reason."""

import numpy as np

from appliance.aggregation.tensors import Array, Arrays, parse
from appliance.words.errors import RemoteError
from appliance.words.models import ModelLayout

MOST_SAMPLES = 10**12
"""As ``SampleCount``: FedAvg's sums stay far from float64's limits."""


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


def check_samples(samples: int) -> None:
    """Raise RemoteError unless an update stands for at least one training sample, and for a credible number."""
    if not 1 <= samples <= MOST_SAMPLES:
        raise RemoteError(f"an update must stand for 1 to {MOST_SAMPLES} samples, not {samples}")


def is_finite(array: Array) -> bool:
    """Tell whether no value is NaN or infinite. Minimum and maximum carry both, and need no array of flags."""
    return array.size == 0 or bool(np.isfinite(array.min()) and np.isfinite(array.max()))
