"""The two sides of a round, pure: the leader's and the participant's."""
