"""Notification of systemd: READY, STATUS, WATCHDOG, STOPPING; silent when systemd did not start the node."""

import os

from sdnotify import SystemdNotifier


class Notifier:
    """sd_notify(3), for Type=notify and WatchdogSec."""

    def __init__(self) -> None:
        # Without systemd the library would make a socket, fail to connect it, and leave it to the garbage collector.
        self._notifier = SystemdNotifier() if "NOTIFY_SOCKET" in os.environ else None
        self._last_status = ""
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        self.watchdog_interval_s = int(microseconds) / 1e6 / 3 if microseconds.isdigit() else None
        """How often to ping: a third of what systemd allows; None when it does not watch."""

    def ready(self) -> None:
        """The node serves."""
        self._notify("READY=1")

    def status(self, line: str) -> None:
        """Show one line in ``systemctl status``; sent only when it changed."""
        if line != self._last_status:
            self._last_status = line
            self._notify(f"STATUS={line}")

    def alive(self) -> None:
        """Ping the watchdog."""
        self._notify("WATCHDOG=1")

    def stopping(self) -> None:
        """The node is shutting down."""
        self._notify("STOPPING=1")

    def _notify(self, state: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(state)
