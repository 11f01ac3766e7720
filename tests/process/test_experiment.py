"""The shortest of the paper's experiments, as an operator runs it: real nodes, files, and nothing left behind."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.test_demo import processes_of


def _experiment(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an experiment whose clusters are in the folder."""
    command = [sys.executable, "-m", "appliance.cli.main", "experiment", *arguments]
    environment = {**os.environ, "TMPDIR": str(folder), "COLUMNS": "80"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)


def test_table_two_of_real_nodes_is_the_papers(tmp_path: Path) -> None:
    out = tmp_path / "results"
    done = _experiment(tmp_path, "table2", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the embedded digits, not MNIST" in done.stdout
    assert "\x1b" not in done.stdout, "colour and movement are for terminals"
    table = done.stdout[done.stdout.index("Table II") :]
    assert max(len(line) for line in table.splitlines() if str(tmp_path) not in line) <= 80

    result = json.loads((out / "table2.json").read_text())
    assert result["reached"], result
    with (out / "table2.csv").open() as file:
        rows = list(csv.DictReader(file))
    states = ["".join(row[f"node{number}"] for number in range(5)) for row in rows]
    assert (rows[0]["step"], states[0]) == ("start", "FFFFF")
    assert {row["step"] for row in rows} == {"start", "election", "resignation", "re-election"}
    assert sorted(states[-1]) == sorted("LFFFF")
    assert "| start |" in (out / "table2.md").read_text()

    assert processes_of(tmp_path) == []
    assert not list(tmp_path.glob("p2pfl-experiment-*")), "its clusters are removed"


@pytest.mark.timeout(60)
def test_data_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = _experiment(tmp_path, "rotation", "--data", f"mnist:{tmp_path / 'none'}", "--out", str(tmp_path / "results"))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: node")
    assert "does not start: data.path:" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "results").iterdir()) == []
    assert processes_of(tmp_path) == []
