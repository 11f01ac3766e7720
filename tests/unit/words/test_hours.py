"""Windows of the week: what they mean, and what is refused."""

import pytest

from appliance.words.hours import DAY, DAYS, WEEK, Hours, in_words


def at(text: str) -> int:
    """Return the minute of the week that a text such as "Sat 22:00" names."""
    day, time = text.split()
    hours, minutes = map(int, time.split(":"))
    return DAYS.index(day) * DAY + 60 * hours + minutes


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("08:00-17:30", ["Mon 08:00", "Sun 17:29"], ["Mon 07:59", "Sun 17:30"]),
        ("22:00-06:00", ["Mon 22:00", "Tue 05:59", "Mon 00:00", "Sun 23:59"], ["Mon 06:00", "Sun 21:59"]),
        ("Sat 00:00-24:00", ["Sat 00:00", "Sat 23:59"], ["Fri 23:59", "Sun 00:00"]),
        ("Sun 22:00-06:00", ["Sun 22:00", "Mon 05:59"], ["Sun 05:00", "Mon 06:00", "Mon 22:00"]),
        ("Mon-Fri 20:00-24:00", ["Mon 20:00", "Fri 23:59"], ["Sat 00:00", "Sat 20:00", "Sun 23:00"]),
        ("Sat-Mon 10:00-11:00", ["Sat 10:00", "Sun 10:30", "Mon 10:59"], ["Tue 10:00", "Fri 10:00"]),
        ("Tue-Tue 10:00-11:00", ["Tue 10:00"], ["Mon 10:00", "Wed 10:00"]),
        ("00:00-24:00", ["Mon 00:00", "Sun 23:59"], []),
    ],
)
def test_a_window(window: str, inside: list[str], outside: list[str]) -> None:
    hours = Hours((window,))
    assert [text for text in inside if not hours.is_open(at(text))] == []
    assert [text for text in outside if hours.is_open(at(text))] == []


def test_no_window_is_always_and_several_are_each_of_them() -> None:
    assert all(Hours(()).is_open(minute) for minute in range(WEEK))
    hours = Hours(("22:00-06:00", "Sat-Sun 00:00-24:00"))
    assert [hours.is_open(at(text)) for text in ("Fri 12:00", "Sat 12:00", "Mon 05:00", "Mon 06:00")] == [
        *(False, True, True, False),
    ]


def test_when_it_opens_is_the_first_minute_that_is_open() -> None:
    hours = Hours(("Mon-Fri 22:15-06:00", "Sun 09:00-10:00"))
    for minute in range(0, WEEK, 7):
        if not hours.is_open(minute):
            wait = hours.opens_in(minute)
            assert hours.is_open((minute + wait) % WEEK)
            assert not any(hours.is_open((minute + step) % WEEK) for step in range(wait))


def test_the_next_window_in_words() -> None:
    assert in_words(at("Mon 12:00"), 600) == "22:00"
    assert in_words(at("Sun 23:00"), 90) == "00:30"
    assert in_words(at("Mon 12:00"), DAY) == "Tue 12:00"
    assert in_words(at("Sat 12:00"), 3 * DAY) == "Tue 12:00"


@pytest.mark.parametrize(
    "text",
    [
        *("", "always", "22:00", "22-06", "24:00-06:00", "22:00-25:00", "22:60-06:00", "9:00-10:00", "22:00 - 06:00"),
        *("sat 00:00-24:00", "Samstag 00:00-24:00", "Sat,Sun 00:00-24:00", "Sat- 00:00-24:00", "Sat", "00:00-24:01"),
        "22:00-06:00\n",
    ],
)
def test_what_is_no_window_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match='must look like "22:00-06:00"'):
        Hours(("08:00-09:00", text))


def test_a_window_that_ends_when_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match='the whole day is "00:00-24:00"'):
        Hours(("06:00-06:00",))
