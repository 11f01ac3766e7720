"""Small models for the tests of aggregation."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.aggregation.encoding import check
from appliance.aggregation.numbers import Weights, in_memory, parts
from appliance.aggregation.tensors import Arrays, count_of
from appliance.words.models import Encoding, ModelLayout, TensorLayout

SMALL: ModelLayout = (
    TensorLayout("a.bias", "F32", (3,)),
    TensorLayout("a.weight", "F32", (3, 2)),
    TensorLayout("scale", "F32", ()),
)


def drawn(seed: int, layout: ModelLayout = SMALL) -> Arrays:
    """Return normally distributed tensors of a layout."""
    random = np.random.default_rng(seed)
    return {
        tensor.name: random.standard_normal(tensor.shape).astype(np.float32).reshape(tensor.shape) for tensor in layout
    }


def decode(content: bytes, base: Arrays, layout: ModelLayout, encoding: Encoding) -> Arrays:
    """Return the tensors that an update's bytes stand for. Raises RemoteError."""
    return whole(check(content, layout, encoding).restored(in_memory(base)), layout)


def whole(weights: Weights, layout: ModelLayout) -> Arrays:
    """Return the tensors of a model that is read part by part."""
    arrays: Arrays = {}
    for tensor in layout:
        numbers = weights[tensor.name]
        assert len(numbers) == count_of(tensor)
        flat = np.empty(len(numbers), np.float32)
        for part in parts(len(numbers)):
            flat[part] = numbers[part]
        arrays[tensor.name] = flat.reshape(tensor.shape)
    return arrays


def models(elements: st.SearchStrategy[float]) -> st.SearchStrategy[Arrays]:
    """Return a strategy for models of the small layout."""
    return st.fixed_dictionaries(
        {tensor.name: hnp.arrays(np.float32, tensor.shape, elements=elements) for tensor in SMALL}
    )
