"""What the machine itself takes for the two things that a commit can't do without: a durable write and a round trip."""

import contextlib
import multiprocessing
import os
import socket
import time
from pathlib import Path

HOST = "127.0.0.1"
WITHIN_S = 5.0


def durable_appends(folder: Path, count: int, size: int) -> list[float]:
    """Append so many bytes to a file and make them durable, ``count`` times; return the seconds of each."""
    handle = os.open(folder / "appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return [_durable_append(handle, b"." * size) for _ in range(count)]
    finally:
        os.close(handle)


def _durable_append(handle: int, content: bytes) -> float:
    began = time.perf_counter()
    os.write(handle, content)
    os.fdatasync(handle)
    return time.perf_counter() - began


def round_trips(count: int, size: int) -> list[float]:
    """Send datagrams to another process on loopback, which sends them back; return the seconds of each trip."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as here:
        here.bind((HOST, 0))
        here.settimeout(WITHIN_S)
        there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        there.bind((HOST, 0))
        here.connect(there.getsockname())
        echo = multiprocessing.get_context("fork").Process(target=_echo, args=(there, count), daemon=True)
        echo.start()
        there.close()
        try:
            return [_round_trip(here, b"." * size) for _ in range(count)]
        finally:
            echo.kill()
            echo.join()


def _echo(there: socket.socket, count: int) -> None:
    for _ in range(count):
        there.sendto(*there.recvfrom(2048))


def _round_trip(here: socket.socket, content: bytes) -> float:
    began = time.perf_counter()
    here.send(content)
    here.recv(2048)
    return time.perf_counter() - began
