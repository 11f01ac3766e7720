"""The daemon's log: a line that repeats is left out for a minute and counted; news never is."""

import logging

from appliance.cli.logs import Repeats
from appliance.words.ids import Monotonic


class _Log:
    """What a filter lets through, at times that the test says."""

    def __init__(self) -> None:
        self.now = Monotonic(1000.0)
        self._filter = Repeats(lambda: self.now)

    def say(self, after_s: float, text: str, *arguments: object, level: int = logging.INFO, **extra: object) -> str:
        self.now = Monotonic(self.now + after_s)
        record = logging.makeLogRecord({"msg": text, "args": arguments, "levelno": level, **extra})
        return record.getMessage() if self._filter.filter(record) else ""


def test_the_same_line_comes_once_a_minute_and_says_how_often_it_did_not() -> None:
    log = _Log()
    assert log.say(0, "refused: %s", "bad") == "refused: bad"
    assert [log.say(10, "refused: %s", "bad") for _ in range(5)] == [""] * 5
    assert log.say(10, "refused: %s", "bad") == "refused: bad (5 more since this was last said)"
    assert log.say(59, "refused: %s", "bad") == ""
    assert log.say(61, "refused: %s", "bad") == "refused: bad (1 more since this was last said)"
    assert log.say(61, "refused: %s", "bad") == "refused: bad"


def test_another_text_or_level_is_another_line() -> None:
    log = _Log()
    assert log.say(0, "round %d is open", 1)
    assert log.say(0, "round %d is open", 2)
    assert log.say(0, "round %d is open", 1, level=logging.ERROR)
    assert not log.say(0, "round %d is open", 1)


def test_news_always_comes() -> None:
    log = _Log()
    assert all(log.say(1, "%s is down", "node3", is_news=True) for _ in range(10))


def test_memory_is_bounded() -> None:
    log = _Log()
    for number in range(1000):
        log.say(0, "line %d", number)
    assert len(log._filter._said) == 256
    assert log.say(0, "line %d", 0), "the longest unseen is forgotten first"
