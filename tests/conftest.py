"""Options of the whole test suite."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--rewrite``: scenario files get the output that the code gives now. Commit the diff only if it is meant."""
    parser.addoption("--rewrite", action="store_true", help="rewrite the expected output in tests/scenarios/*.txt")
