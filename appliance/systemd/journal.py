"""The journal's own protocol: one entry an event, with fields that ``journalctl P2PFL_ROUND=12`` finds.

Protocol: https://systemd.io/JOURNAL_NATIVE_PROTOCOL. Written out here, since it is a datagram of lines: the libraries
for it need libsystemd's headers to build, or bring fields of their own.
"""

import logging
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

SOCKET = Path("/run/systemd/journal/socket")
MESSAGE_LIMIT = 16_384
"""Of bytes in one entry's text: what is longer ends with a mark. The journal takes a datagram of some 200 kB."""
PRIORITIES = {logging.CRITICAL: 2, logging.ERROR: 3, logging.WARNING: 4, logging.INFO: 6, logging.DEBUG: 7}
"""Syslog's, as sd-daemon(3) has them."""

Fields = Mapping[str, object]


class JournalHandler(logging.Handler):
    """Sends each record as one entry.

    Its fields are those that ``context`` returns at that moment (what the node is doing), and over them what the
    record's ``extra`` has under the names of ``ABOUT`` (what the line is about).
    """

    ABOUT = ("peer", "round", "term")

    def __init__(self, path: Path = SOCKET) -> None:
        """Connect. Raises OSError if no journal listens at ``path``."""
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))  # the rest has fields of its own
        self.context: Callable[[], Fields] = dict
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def emit(self, record: logging.LogRecord) -> None:
        """Send one entry; what the journal does not take is lost, as on any full log."""
        try:
            self._socket.send(self._entry(record))
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def _entry(self, record: logging.LogRecord) -> bytes:
        about = {name: getattr(record, name) for name in self.ABOUT if hasattr(record, name)}
        fields: dict[str, object] = {
            "MESSAGE": _bounded(self.format(record)),
            "PRIORITY": PRIORITIES.get(record.levelno, 6),
            "SYSLOG_IDENTIFIER": "p2pfl-node",
            "CODE_MODULE": record.name,
        }
        fields |= {f"P2PFL_{name.upper()}": value for name, value in {**self.context(), **about}.items()}
        return b"".join(_field(name, str(value).encode(errors="replace")) for name, value in fields.items())


def _bounded(text: str) -> str:
    content = text.encode(errors="replace")
    if len(content) <= MESSAGE_LIMIT:
        return text
    return content[:MESSAGE_LIMIT].decode(errors="ignore") + " ..."


def _field(name: str, value: bytes) -> bytes:
    """Return ``NAME=value``, or the form with a length in front, which alone may hold line ends."""
    if b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"
