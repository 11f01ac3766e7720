"""The paper's figures (Behera, Upadhyay, Shetty, Otter 2021/2023), beside which ours are shown."""

INITIAL_ACCURACY, INITIAL_LOSS = 0.9103, 2.4663
PARTICIPANTS = (0.9474, 0.9489, 0.9423, 0.9441, 0.9458)
PARTICIPANTS_MEAN = 0.9457
AGGREGATED_ACCURACY, AGGREGATED_LOSS = 0.9604, 0.72
GAIN = AGGREGATED_ACCURACY - PARTICIPANTS_MEAN
"""Of the aggregated model over the participants' mean: 1.47 points. All from Table I."""
NEW_LEADER_S = 20.0
"""Until a new leader, after the old one was shut down on purpose."""
PERIODS = 7
"""Resignations in its run of seven days, one a day."""
