"""The corpus through each target, always; and a few seconds under the fuzzer, where it is installed."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
SECONDS = 3


def test_each_target_has_a_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == TARGETS.keys()
    assert all(any((CORPUS / name).iterdir()) for name in TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_raises_nothing_that_is_not_documented(name: str) -> None:
    for file in sorted((CORPUS / name).iterdir()):
        content = file.read_bytes()
        # Whole, cut at several places, and with a tail.
        for each in (content, content[: len(content) // 2], content[:-1], content + b"\0", content + content):
            TARGETS[name](each)


def test_the_valid_logs_get_past_their_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target whose examples are all refused would find nothing, however long it runs."""
    opened = []
    monkeypatch.setattr(targets, "Log", lambda kept, commit, _: opened.append((len(kept.entries), commit)))
    for file in sorted((CORPUS / "log").glob("seed-*")):
        targets.log(file.read_bytes())
    assert len(opened) >= 10
    assert max(opened) == (2, 3)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", TARGETS)
def test_a_few_seconds_of_fuzzing_find_nothing(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS), "--log", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr + (tmp_path / f"{name}.log").read_text(errors="replace")[-3000:]
