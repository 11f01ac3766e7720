"""Which device a node trains on."""

import torch

from appliance.words.errors import OperatorError
from appliance.words.settings import Training


def device_of(settings: Training) -> torch.device:
    """Return the device that ``training.device`` means. Raises OperatorError if it is not there."""
    if settings.device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if settings.device == "cuda":
        raise OperatorError("training.device is cuda, and PyTorch finds no CUDA device; auto takes the CPU then")
    return torch.device("cpu")
