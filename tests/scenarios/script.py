"""The form of a scenario file: comments, and blocks of commands, a ruler, and the expected output.

    # What the story is about.

    node0: leads term 1 from m4
    ----
    node0: makes a key pair for term 1

Commands are whole sentences (``stage.py`` lists them). A block without output says ``ok``.
"""

from collections.abc import Callable, Sequence

RULER = "----"
NOTHING = "ok"


def replay(text: str, play: Callable[[str], Sequence[str]]) -> str:
    """Play every command of a script; return the script with the output that came."""
    result: list[str] = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        result.append(line)
        if not line or line.startswith("#"):
            continue
        output = _play(line, number, play)
        while number < len(lines) and lines[number] and lines[number] != RULER:
            number += 1
            result.append(lines[number - 1])
            output += _play(lines[number - 1], number, play)
        result += [RULER, *(output or [NOTHING])]
        while number < len(lines) and lines[number]:
            number += 1
    return "\n".join(result) + "\n"


def _play(command: str, number: int, play: Callable[[str], Sequence[str]]) -> list[str]:
    try:
        return list(play(command))
    except LookupError as error:
        raise LookupError(f"line {number}: {error.args[0]}") from None
