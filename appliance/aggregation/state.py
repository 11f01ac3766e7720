"""A strategy's state: what goes on from one round to the next, and so must outlive the leader that calculated it.

It is part of the global model's bytes, as further tensors beside the network's: the digest covers it, a majority stores
it before the commit, and whoever leads next goes on from it. Each moment (the running first or second power of the
steps) has one tensor for each of the network's. Every node reads a model with any state or none, whatever its own
strategy is; an update has none, and is read by ``validation.parse_update``.
"""

from collections.abc import Mapping
from typing import Literal

from appliance.aggregation.tensors import Array, Arrays, parse, serialise
from appliance.words.models import ModelLayout, TensorLayout

Moment = Literal["first", "second"]
RESERVED = "aggregation."
"""What the names of state begin with; no network's tensor may."""

_STATES: tuple[tuple[Moment, ...], ...] = ((), ("first",), ("first", "second"))
"""All that a model can hold."""


def state_name(moment: Moment, tensor: str) -> str:
    """Return the name of a moment's tensor that belongs to a tensor of the network."""
    return f"{RESERVED}{moment}/{tensor}"


def parse_model(content: bytes | memoryview, layout: ModelLayout) -> Arrays:
    """Return a global model's tensors as ``tensors.parse`` does: the network's, and those of its state, if it has one.

    Raises:
        RemoteError: if the bytes are neither the network alone nor the network with a whole state.
    """
    return parse(content, *(_layout_with(moments, layout) for moments in _STATES))


def serialise_model(arrays: Mapping[str, Array], layout: ModelLayout) -> bytes:
    """Return a global model's bytes, as ``tensors.serialise`` does.

    Args:
        arrays: the tensors of the network and of a whole state, or of the network alone.
        layout: of the network.

    Raises:
        ValueError: if they are neither.
    """
    layouts = [_layout_with(moments, layout) for moments in _STATES]
    return serialise(arrays, next((each for each in layouts if len(each) == len(arrays)), layout))


def has_state(arrays: Mapping[str, Array], moments: tuple[Moment, ...], layout: ModelLayout) -> bool:
    """Tell whether a model that ``parse_model`` returned holds the state of exactly these moments."""
    return len(arrays) == len(_layout_with(moments, layout))


def _layout_with(moments: tuple[Moment, ...], layout: ModelLayout) -> ModelLayout:
    state = [
        TensorLayout(state_name(moment, tensor.name), tensor.dtype, tensor.shape)
        for moment in moments
        for tensor in layout
    ]
    return tuple(sorted([*layout, *state], key=lambda tensor: tensor.name))
