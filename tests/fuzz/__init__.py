"""Coverage-guided fuzzing of everything that parses bytes from the network or the disk (python -m tests.fuzz)."""
