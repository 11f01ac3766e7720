"""The steps of a participant in a round."""

from enum import Enum


class Step(Enum):
    """Where the participant stands in the round; each value is how ``status`` says it."""

    NO_LEADER = "waiting for a leader"
    NO_ROUND = "waiting for a round to open"
    FETCHING = "waiting for the base model"
    TRAINING = "training"
    TOKENLESS = "waiting for the leader's token"
    FINISHED = "waiting for the others to finish training"
    DELIVERING = "waiting for a receipt"
    DELIVERED = "waiting for the round to close"
    REFUSED = "update refused, waiting for the next round"
    FAILED = "can't train now, waiting to try again"
    CLOSED = "waiting for the training hours"
    EXCLUDED = "kept out of rounds"


UNABLE = {Step.FAILED, Step.CLOSED, Step.EXCLUDED}
"""Where no update can be expected before the step changes."""
