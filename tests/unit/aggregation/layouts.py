"""Small models for the tests of aggregation."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance.aggregation.tensors import Arrays
from appliance.words.models import ModelLayout, TensorLayout

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


def models(elements: st.SearchStrategy[float]) -> st.SearchStrategy[Arrays]:
    """Return a strategy for models of the small layout."""
    return st.fixed_dictionaries(
        {tensor.name: hnp.arrays(np.float32, tensor.shape, elements=elements) for tensor in SMALL}
    )
