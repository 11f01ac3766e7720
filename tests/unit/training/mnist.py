"""Where the real MNIST is, for the tests that need it; the repository holds none."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("P2PFL_MNIST", Path(__file__).parents[4] / "shared" / "data"))
needs_mnist = pytest.mark.skipif(
    not (ROOT / "MNIST" / "raw").is_dir(), reason="needs MNIST: P2PFL_MNIST names no folder that holds MNIST/raw"
)
