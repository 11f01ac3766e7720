"""The journal's own protocol over a real datagram socket: fields, priorities, line ends, bounds."""

import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.systemd.journal import MESSAGE_LIMIT, JournalHandler


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which the journal listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.settimeout(5)
        yield listening


@pytest.fixture
def handler(journal: socket.socket, tmp_path: Path) -> Iterator[JournalHandler]:
    handler = JournalHandler(tmp_path / "socket")
    yield handler
    handler.close()


def parse(entry: bytes) -> dict[str, str]:
    """Read an entry as the protocol's page says, both forms of a field."""
    fields = {}
    while entry:
        line, _, entry = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", entry[:8])
            value, entry = entry[8 : 8 + length], entry[8 + length :]
            assert entry[:1] == b"\n", "a value with a length ends with a line end"
            entry = entry[1:]
        fields[name.decode()] = value.decode()
    return fields


def _sent(handler: JournalHandler, journal: socket.socket, **record: object) -> dict[str, str]:
    handler.handle(logging.makeLogRecord({"name": "appliance.node", "levelno": logging.INFO, **record}))
    return parse(journal.recv(1 << 20))


def test_an_entry_says_what_the_node_does_and_what_the_line_is_about(
    handler: JournalHandler, journal: socket.socket
) -> None:
    handler.context = lambda: {"node": "node1", "role": "leader", "term": 5, "round": 12}
    entry = _sent(handler, journal, msg="%s is down", args=("node3",), levelno=logging.WARNING, peer="node3", round=11)
    assert entry == {
        "MESSAGE": "node3 is down",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "p2pfl-node",
        "CODE_MODULE": "appliance.node",
        "P2PFL_NODE": "node1",
        "P2PFL_ROLE": "leader",
        "P2PFL_TERM": "5",
        "P2PFL_ROUND": "11",
        "P2PFL_PEER": "node3",
    }


def test_a_line_end_in_a_value_makes_no_field_of_its_own(handler: JournalHandler, journal: socket.socket) -> None:
    """Whatever a peer writes into a reason, the journal's fields are this node's."""
    entry = _sent(handler, journal, msg="one\nPRIORITY=0\ntwo", peer="node3\nP2PFL_TERM=9")
    assert entry["MESSAGE"] == "one\nPRIORITY=0\ntwo"
    assert entry["PRIORITY"] == "6"
    assert entry["P2PFL_PEER"] == "node3\nP2PFL_TERM=9"
    assert "P2PFL_TERM" not in entry


def test_a_traceback_is_in_the_entry_of_its_event(handler: JournalHandler, journal: socket.socket) -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        entry = _sent(handler, journal, msg="a bug", exc_info=(ValueError, error, error.__traceback__))
    assert entry["MESSAGE"].startswith("a bug\nTraceback")
    assert entry["MESSAGE"].endswith("ValueError: broken")


def test_a_long_text_is_cut(handler: JournalHandler, journal: socket.socket) -> None:
    text = _sent(handler, journal, msg="é" * MESSAGE_LIMIT)["MESSAGE"]
    assert text == "é" * (MESSAGE_LIMIT // 2) + " ..."


def test_without_a_journal_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JournalHandler(tmp_path / "none")
