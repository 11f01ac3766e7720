"""Who listens in the place of systemd."""

import socket
from pathlib import Path


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def listen(self) -> list[str]:
        """Return all that was said so far."""
        while True:
            try:
                self.heard.extend(self._socket.recv(4096).decode().splitlines())
            except BlockingIOError:
                return self.heard

    def close(self) -> None:
        self._socket.close()
