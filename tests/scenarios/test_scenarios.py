"""Every scenario file gives the output that it expects. ``pytest tests/scenarios --rewrite`` writes it anew."""

from pathlib import Path

import pytest

from tests.scenarios.script import replay
from tests.scenarios.stage import Stage

FILES = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_scenario(file: Path, pytestconfig: pytest.Config) -> None:
    expected = file.read_text()
    result = replay(expected, Stage().play)
    if pytestconfig.getoption("--rewrite"):
        file.write_text(result)
    else:
        assert result == expected


def test_an_unknown_command_is_named_with_its_line() -> None:
    with pytest.raises(LookupError, match="line 3: no such command: node0: dances"):
        replay("# A story.\n\nnode0: dances\n----\nok\n", Stage().play)


def test_output_is_replaced_and_all_else_is_kept() -> None:
    script = "# A story.\n\nnode0: leads term 1 from nothing\n----\nwrong\nlines\n\n# The end."
    assert replay(script, Stage().play) == (
        "# A story.\n\nnode0: leads term 1 from nothing\n----\nnode0: makes a key pair for term 1\n\n# The end.\n"
    )
