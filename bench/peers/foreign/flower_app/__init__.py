"""A Flower app: copied with a pyproject.toml to where a run has it."""
