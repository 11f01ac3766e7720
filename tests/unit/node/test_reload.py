"""A configuration read again: live keys apply, all others are named and wait for a restart."""

from pathlib import Path

import msgspec

from appliance.node.config import Config, load
from appliance.node.reload import LIVE, reloaded
from tests.unit.node.test_config import WHOLE


def _config(folder: Path, more: str = "", whole: str = WHOLE) -> Config:
    file = folder / "node.toml"
    file.write_text(whole + more)
    return load(file)


def test_the_same_file_changes_nothing(tmp_path: Path) -> None:
    config = _config(tmp_path)
    found = reloaded(config, _config(tmp_path))
    assert (found.config, found.applied, found.at_restart) == (config, [], [])


def test_live_keys_apply_and_the_others_wait(tmp_path: Path) -> None:
    old = _config(tmp_path)
    more = """
[rounds]
interval_s = 5.0
quorum = 3
[training]
learning_rate = 0.01
threads = 2
[logging]
level = "debug"
[consensus]
period_s = 100.0
"""
    found = reloaded(old, _config(tmp_path, more, WHOLE.replace("10.0.0.1", "10.0.0.9")))
    assert found.applied == [
        "rounds.quorum: the default -> 3",
        "rounds.interval_s: 60.0 -> 5.0",
        "training.learning_rate: 0.001 -> 0.01",
        "logging.level: info -> debug",
    ]
    assert found.at_restart == ["cluster.members", "consensus.period_s", "training.threads"]
    assert found.config.rounds.interval_s == 5.0
    assert found.config.training.learning_rate == 0.01
    assert found.config.training.threads == 1
    assert (found.config.cluster, found.config.consensus) == (old.cluster, old.consensus)
    # What waits is named at each reload, until the node starts again.
    assert reloaded(found.config, _config(tmp_path, more)).at_restart == ["consensus.period_s", "training.threads"]


def test_training_hours_change_in_a_running_node(tmp_path: Path) -> None:
    old = _config(tmp_path)
    new = _config(tmp_path, '[training]\nhours = ["22:00-06:00", "Sat 00:00-24:00"]\n')
    found = reloaded(old, new)
    assert found.applied == ["training.hours: none -> 22:00-06:00, Sat 00:00-24:00"]
    assert found.config == new


def test_every_live_key_is_one(tmp_path: Path) -> None:
    config = _config(tmp_path)
    for section, keys in LIVE.items():
        assert keys <= {field.name for field in msgspec.structs.fields(getattr(config, section))}
