"""What the log says of peers: each thing once a minute, and few things of each."""

import pytest

from appliance.mesh.complaints import STRANGERS, Complaints
from appliance.words.ids import Monotonic


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> Monotonic:
        return Monotonic(self.now)


def test_each_reason_is_said_once_a_minute_for_each_peer(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complaints = Complaints(clock)
    for now in (0.0, 1.0, 59.0, 60.0):
        clock.now = now
        for peer in ("node1", "node2"):
            complaints.say(peer, "is slow")
    assert [record.getMessage() for record in caplog.records] == [
        f"mesh: {peer}: is slow (said at most once a minute)" for peer in ("node1", "node2")
    ] * 2


def test_strangers_are_one_peer_whatever_their_addresses(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(Clock())
    for number in range(1000):
        complaints.say(STRANGERS, "knock", f"192.0.2.{number % 250}")
    assert [record.getMessage() for record in caplog.records] == [
        "mesh: strangers (the latest: 192.0.2.0): knock (said at most once a minute)"
    ]


def test_a_peer_with_ever_new_reasons_is_quoted_30_times_and_costs_no_other_its_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    complaints = Complaints(Clock())
    for number in range(1000):
        complaints.say("hostile", f"format version {number} is unknown")
    complaints.say("node1", "is slow")
    assert len(caplog.records) == 31
    assert "node1" in caplog.records[-1].getMessage()
