"""The one door to torchvision, 77 MB resident: only ``prepare``'s child process and benchmarks go through."""

import contextlib
import importlib.util
from pathlib import Path
from types import ModuleType

import torch

_OPERATORS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []
"""Kept for the life of the process: operators vanish with the library object that declared them."""


def import_torchvision() -> ModuleType:
    """Return the module torchvision.

    Its wheel from the public index is built for CUDA. Beside a CPU-only torch its C++ part does not load, and then its
    import fails on two operators that were to come from there, though nothing of ours calls them. Declared first, they
    are enough. Where the C++ part does load, it must be the one to declare them.
    """
    found = importlib.util.find_spec("torchvision")
    if found is not None and found.origin is not None:
        with contextlib.suppress(OSError):
            torch.ops.load_library(Path(found.origin).with_name("_C.so"))  # type: ignore[no-untyped-call]
    for name, schema in _OPERATORS.items():
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(schema)  # type: ignore[no-untyped-call]
            _declared.append(library)
    import torchvision  # noqa: PLC0415 - only once the operators are there

    module: ModuleType = torchvision
    return module
