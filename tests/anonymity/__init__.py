"""How well a curious leader guesses whose an update is."""
