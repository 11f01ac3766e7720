"""Options of the whole test suite."""

import hypothesis
import pytest

# A test's time depends on what else runs on the machine; pytest's own limit stands for all of it.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--rewrite``: scenario files get the output that the code gives now. Commit the diff only if it is meant."""
    parser.addoption("--rewrite", action="store_true", help="rewrite the expected output in tests/scenarios/*.txt")
