"""Which strategy a configuration means."""

from collections.abc import Callable

from appliance.aggregation.clipping import NormClipping
from appliance.aggregation.fedavg import FedAvg
from appliance.aggregation.krum import Krum
from appliance.aggregation.strategy import Strategy
from appliance.aggregation.tensors import Arrays
from appliance.aggregation.trimming import Median, TrimmedMean
from appliance.words.models import ModelLayout
from appliance.words.settings import Aggregation


def strategy_for(settings: Aggregation, layout: ModelLayout, base: Callable[[], Arrays]) -> Strategy:
    """Return a round's strategy, with nothing added yet.

    Args:
        settings: which one, and how many hostile updates it must bear.
        layout: float32 tensors only.
        base: returns the model that the round's updates are trained from; asked only by a strategy that needs it.
    """
    match settings.strategy:
        case "mean":
            return FedAvg(layout)
        case "median":
            return Median(layout, settings.attackers)
        case "trimmed-mean":
            return TrimmedMean(layout, settings.attackers)
        case "krum":
            return Krum(layout, settings.attackers)
        case "norm-clipping":
            return NormClipping(layout, settings.attackers, base())
