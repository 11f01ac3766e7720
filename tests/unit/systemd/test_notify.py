"""sd_notify(3) over a real datagram socket, and silence without systemd."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.systemd.notify import Notifier


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which systemd listens."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        yield listening


def _heard(systemd: socket.socket) -> list[str]:
    """Return all that was sent: a datagram on a Unix socket is there as soon as it is sent."""
    heard = []
    try:
        while True:
            heard.append(systemd.recv(4096).decode())
    except BlockingIOError:
        return heard


def _close(notifier: Notifier) -> None:
    assert notifier._notifier is not None
    notifier._notifier.socket.close()


def test_systemd_is_told_of_each_state(systemd: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready()
    notifier.alive()
    notifier.stopping()
    assert _heard(systemd) == ["READY=1", "WATCHDOG=1", "STOPPING=1"]
    _close(notifier)


def test_a_status_is_sent_when_it_changed(systemd: socket.socket) -> None:
    notifier = Notifier()
    for line in ("follower", "follower", "leader", "leader", "follower"):
        notifier.status(line)
    assert _heard(systemd) == ["STATUS=follower", "STATUS=leader", "STATUS=follower"]
    _close(notifier)


@pytest.mark.parametrize(("allowed_us", "ping_s"), [("30000000", 10.0), ("", None), ("soon", None)])
def test_the_watchdog_is_pinged_three_times_as_often_as_needed(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch, allowed_us: str, ping_s: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", allowed_us)
    notifier = Notifier()
    assert notifier.watchdog_interval_s == ping_s
    _close(notifier)


def test_without_systemd_nothing_is_sent_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    notifier.ready()
    notifier.status("follower")
    notifier.alive()
    notifier.stopping()
