"""What the two sides of a node call when something follows from their work."""

from collections.abc import Callable, Iterable

from appliance.rounds.actions import Action
from appliance.words.messages import LeaderStatement

CarryOut = Callable[[Iterable[Action]], None]
"""Takes the actions that follow from an event."""

Hear = Callable[[LeaderStatement], None]
"""Lets this node itself hear what it says to all."""


def ignore(_: object) -> None:
    """Nothing follows from this work."""
