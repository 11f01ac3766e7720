"""The Ansible role: its documented defaults are its defaults."""

from pathlib import Path
from typing import Any

import yaml

ROLE = Path(__file__).parents[3] / "ansible/roles/p2pfl_node"


def test_the_documented_defaults_are_the_defaults() -> None:
    defaults = _read("defaults")
    documented: dict[str, Any] = {}
    for specification in _read("meta", "argument_specs.yml")["argument_specs"].values():
        options = specification["options"]
        assert all(option["description"] for option in options.values())
        documented |= {name: option["default"] for name, option in options.items() if not option.get("required")}
    assert documented == defaults


def test_every_tasks_file_that_a_playbook_runs_says_what_it_takes() -> None:
    specified = set(_read("meta", "argument_specs.yml")["argument_specs"])
    run = {"main"}
    for playbook in ROLE.parents[1].glob("*.yml"):
        for play in yaml.safe_load(playbook.read_text()):
            run |= {task["ansible.builtin.import_role"]["tasks_from"] for task in play.get("tasks", [])}
    assert specified == run


def _read(folder: str, file: str = "main.yml") -> dict[str, Any]:
    return dict(yaml.safe_load((ROLE / folder / file).read_text()))
