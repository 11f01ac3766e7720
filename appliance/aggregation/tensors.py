"""A model's bytes: the safetensors format, written canonically and read strictly, without a copy.

Format (safetensors 0.x, https://github.com/huggingface/safetensors): 8 bytes little-endian length of the header; the
header, JSON, ``{name: {"dtype", "shape", "data_offsets": [begin, end]}}``, padded with spaces; the tensors' bytes.

The library is not used here for two reasons. Its readers copy every tensor, so an aggregator would hold each update
twice. And a model's digest is part of the protocol, so its bytes must not change with a library's version. The tests
hold both directions against the library.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from appliance.words.errors import RemoteError
from appliance.words.models import ModelLayout, TensorLayout
from appliance.words.parts import join

Array = NDArray[np.float32]
Arrays = dict[str, Array]
"""A model's tensors by name, float32."""

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I8": np.dtype("i1")}
"""By safetensors' word. A model's tensors are F32; the others are those of encoded updates."""
_PREFIX = 8
_METADATA = "__metadata__"
_Offset = Annotated[int, Meta(ge=0, lt=2**53)]


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[_Offset, ...]
    data_offsets: tuple[_Offset, _Offset]


_decoder: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_entry_decoder: msgspec.json.Decoder[_Entry] = msgspec.json.Decoder(_Entry)


def serialise(arrays: Mapping[str, NDArray[Any]], layout: ModelLayout) -> bytes:
    """Return a model's safetensors bytes: the same arrays give the same bytes on every node.

    Args:
        arrays: exactly the tensors of ``layout``, each of its shape and type.
        layout: sorted by name, which is also the order of the bytes.

    Raises:
        ValueError: if the arrays are not those of the layout.
    """
    if len(arrays) != len(layout):
        raise ValueError(f"{len(arrays)} tensors, and the layout has {len(layout)}")
    views = [_bytes_of(arrays[tensor.name], tensor) for tensor in layout]
    header = _header(layout)
    return join([header, *views], len(header) + size_of(layout))


def parse(content: bytes | memoryview, *layouts: ModelLayout) -> Arrays:
    """Return the tensors as read-only views into ``content``, which they keep alive; their values unchecked.

    They are float32 where the layout says F32, as a model's does. Unaligned if the sender's header makes them so.

    Args:
        content: a model's bytes, all of them.
        layouts: at least one, no two with equally many tensors. The content must have exactly one of them.

    Raises:
        RemoteError: if these are not the bytes of a model of such a layout; a reason quotes nothing from the bytes.
    """
    entries, start = _read_header(content, layouts)
    layout = next((each for each in layouts if len(each) == len(entries)), layouts[0])
    if missing := [tensor.name for tensor in layout if tensor.name not in entries]:
        raise RemoteError(f"the model lacks the tensor {missing[0]}")
    if len(entries) > len(layout):
        raise RemoteError(f"the model has {len(entries)} tensors, and {len(layout)} are expected")
    for tensor in layout:
        _check_entry(entries[tensor.name], tensor)
    _check_coverage(entries, len(content) - start)
    return {
        tensor.name: np.frombuffer(
            content, _DTYPES[tensor.dtype], count_of(tensor), start + entries[tensor.name].data_offsets[0]
        ).reshape(tensor.shape)
        for tensor in layout
    }


def count_of(tensor: TensorLayout) -> int:
    """Return how many numbers a tensor holds."""
    return int(np.prod(tensor.shape, dtype=np.int64))


def size_of(layout: ModelLayout) -> int:
    """Return how many bytes a model's tensors have, all together."""
    return sum(map(_size_of, layout))


def _size_of(tensor: TensorLayout) -> int:
    """Return how many bytes a tensor has."""
    return count_of(tensor) * _DTYPES[tensor.dtype].itemsize


def _header(layout: ModelLayout) -> bytes:
    """Return the length and the header, padded to a multiple of 8 so that the numbers after it are aligned."""
    entries: dict[str, _Entry] = {}
    begin = 0
    for tensor in layout:
        end = begin + _size_of(tensor)
        entries[tensor.name] = _Entry(tensor.dtype, tensor.shape, (begin, end))
        begin = end
    text = msgspec.json.encode(entries)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_PREFIX, "little") + text


def _bytes_of(array: NDArray[Any], tensor: TensorLayout) -> memoryview:
    if tensor.dtype not in _DTYPES or array.dtype != _DTYPES[tensor.dtype] or array.shape != tensor.shape:
        raise ValueError(
            f"{tensor.name} is {array.dtype}{array.shape}, and the layout says {tensor.dtype}{tensor.shape}"
        )
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _read_header(content: bytes | memoryview, layouts: Sequence[ModelLayout]) -> tuple[dict[str, _Entry], int]:
    """Return the entries by name, and where the tensors' bytes start."""
    length = int.from_bytes(content[:_PREFIX], "little")
    # A header longer than any that these layouts can need is refused unread: JSON takes many times its size in memory.
    most = 4096 + 4 * max(len(_header(layout)) for layout in layouts)
    if len(content) < _PREFIX or length > min(len(content) - _PREFIX, most):
        raise RemoteError("not a safetensors model: the header's length is wrong")
    try:
        raw = _decoder.decode(content[_PREFIX : _PREFIX + length])
        raw.pop(_METADATA, None)
        return {name: _entry_decoder.decode(entry) for name, entry in raw.items()}, _PREFIX + length
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RemoteError("not a safetensors model: the header can't be read") from None


def _check_entry(entry: _Entry, tensor: TensorLayout) -> None:
    if entry.dtype != tensor.dtype:
        raise RemoteError(f"the tensor {tensor.name} is not of type {tensor.dtype}")
    if entry.shape != tensor.shape:
        raise RemoteError(f"the tensor {tensor.name} is not of shape {list(tensor.shape)}")
    begin, end = entry.data_offsets
    if end - begin != _size_of(tensor):
        raise RemoteError(f"the tensor {tensor.name} has not as many bytes as its shape says")


def _check_coverage(entries: dict[str, _Entry], available: int) -> None:
    """Demand that the tensors lie side by side and end with the content: no gap, no overlap, nothing after them."""
    position = 0
    for begin, end in sorted(entry.data_offsets for entry in entries.values()):
        if begin != position:
            raise RemoteError("not a safetensors model: its tensors overlap or leave a gap")
        position = end
    if position > available:
        raise RemoteError("the model is cut short")
    if position < available:
        raise RemoteError("the model has bytes after its last tensor")
