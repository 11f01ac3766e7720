"""Which strategy a configuration means."""

from collections.abc import Callable

from appliance.aggregation.clipping import NormClipping
from appliance.aggregation.fedavg import FedAvg
from appliance.aggregation.krum import Krum
from appliance.aggregation.numbers import in_memory
from appliance.aggregation.server_optimizers import FedAdam, FedAvgM, FedYogi
from appliance.aggregation.strategy import Strategy
from appliance.aggregation.tensors import Arrays
from appliance.aggregation.trimming import Median, TrimmedMean
from appliance.words.models import ModelLayout
from appliance.words.settings import Aggregation

_ROBUST: dict[str, Callable[[ModelLayout, int], Strategy]] = {
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "krum": Krum,
}
_SERVER_OPTIMIZERS: dict[str, Callable[[ModelLayout, Aggregation, Arrays], Strategy]] = {
    "fedavgm": FedAvgM,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
}


def strategy_for(settings: Aggregation, layout: ModelLayout, base: Callable[[], Arrays]) -> Strategy:
    """Return a round's strategy, with nothing added yet.

    Args:
        settings: which one, how many hostile updates it must bear, and the server optimizers' numbers.
        layout: the network's tensors, float32 only.
        base: returns the model that the round's updates are trained from, with the state of whatever strategy made it;
            asked only by a strategy that needs it.
    """
    match settings.strategy:
        case "mean":
            return FedAvg(layout)
        case "median" | "trimmed-mean" | "krum":
            return _ROBUST[settings.strategy](layout, settings.attackers)
        case "norm-clipping":
            return NormClipping(layout, settings.attackers, in_memory(base()))
        case "fedavgm" | "fedadam" | "fedyogi":
            return _SERVER_OPTIMIZERS[settings.strategy](layout, settings, base())
