"""What the tests of a node's work share."""

from collections.abc import Iterator

import pytest

from appliance.envelopes.pool import KeyPool


@pytest.fixture(scope="package")
def keys() -> Iterator[KeyPool]:
    """Small keys, made ahead."""
    with KeyPool(2, 2048) as pool:
        yield pool
