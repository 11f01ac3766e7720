"""The core, broken on purpose in many ways: the simulator or a test must catch each. ``python -m tests.mutations``."""
