"""Stories of rounds, told in plain words over the pure cores: each is a text file that a reviewer can read."""
