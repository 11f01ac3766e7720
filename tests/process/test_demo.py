"""The demonstration itself: what the README's first command shows must happen, and leave nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.waiting import until

COMMAND = [sys.executable, "-m", "appliance.cli.main", "demo", "--nodes", "3", "--rounds", "5", "--keep"]


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in command and b"demo" not in command.split(b"\0"):
                found.append(int(entry.name))
    return found


@pytest.mark.timeout(180)
def test_a_leader_dies_and_both_tables_are_printed(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    done = subprocess.run([*COMMAND, str(folder)], capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for promised in ("kill -9", "nothing is lost", "is asked to resign", "Table I:", "Table II:", "one lineage"):
        assert promised in done.stdout
    assert "\x1b" not in done.stdout, "colour and movement are for terminals"
    assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert processes_of(folder) == []


@pytest.fixture
def heeds_sigint() -> Iterator[None]:
    """Whoever runs the tests in the background may ignore SIGINT, and a child would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("heeds_sigint")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_ends_all_its_nodes(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "kept"
    with subprocess.Popen([*COMMAND, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        try:
            until(lambda: len(processes_of(folder)) == 3, "three node processes", within_s=60)
            os.kill(demo.pid, number)
            _, errors = demo.communicate(timeout=30)
        finally:
            demo.kill()
    assert demo.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert processes_of(folder) == []
