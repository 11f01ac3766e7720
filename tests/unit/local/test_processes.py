"""Node processes on this machine: an interruption never leaves one behind that nobody knows of."""

import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.local import processes
from appliance.local.processes import NodeProcess


def test_an_interruption_while_a_process_is_started_waits_until_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def interrupted(*_: object, **__: object) -> subprocess.Popen[bytes]:
        begun.append(subprocess.Popen(["sleep", "60"]))
        signal.raise_signal(signal.SIGINT)  # the process is there, and not yet told to whoever starts it
        return begun[0]

    fake = SimpleNamespace(Popen=interrupted, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(processes, "subprocess", fake)
    node = NodeProcess(tmp_path / "node.toml", cast(Any, None))
    # Whoever runs the tests in the background may ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            node.start()
        assert node.process is begun[0]
    finally:
        signal.signal(signal.SIGINT, before)
        begun[0].kill()
        begun[0].wait()
