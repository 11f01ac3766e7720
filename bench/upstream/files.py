"""What lies on the disk: a log that must be read again, and a disk that takes no more bytes."""

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from appliance.consensus.messages import Entry, HardState
from appliance.datagrams.raftos_shim import JsonSerializer
from appliance.storage.log import ConsensusLog

TERMS = 100
NODE = "127.0.0.1:1"


# --- 7: a log of one entry, in each of the first hundred terms --------------------------------------------------------


def their_log_read_again(raftos: Any, folder: Path) -> str:
    """With upstream's default serializer. Its library is stood in for: the format is the same, whoever writes it."""

    def unpackb(data: bytes, **_: object) -> object:
        return msgspec.msgpack.decode(data)

    def packb(data: object, **_: object) -> bytes:
        return msgspec.msgpack.encode(data)

    library = sys.modules["msgpack"]
    with patch.multiple(library, create=True, packb=packb, unpackb=unpackb):
        return _read_again(lambda term: _their_entry(raftos, folder / str(term), term))


def _their_entry(raftos: Any, folder: Path, term: int) -> bool:
    raftos.configure({"log_path": str(folder), "serializer": raftos.serializers.MessagePackSerializer})
    raftos.storage.Log(NODE).write(term, {"x": 1})
    return bool(raftos.storage.Log(NODE)[1]["term"] == term)


def our_log_read_again(folder: Path) -> str:
    return _read_again(lambda term: _our_entry(folder / str(term), term))


def _our_entry(folder: Path, term: int) -> bool:
    entry = Entry(1, term, "data", b"\x0a\n")
    with ConsensusLog(folder) as log:
        log.save(HardState(term, None, 0), None, None, [entry])
    with ConsensusLog(folder) as log:
        return list(log.kept.entries) == [entry]


def _read_again(same: Callable[[int], bool]) -> str:
    failed: list[str] = []
    for term in range(1, TERMS + 1):
        try:
            if not same(term):
                failed.append("another entry")
        except Exception as error:  # whatever it raises is the result
            failed.append(type(error).__name__)
    why = f" ({', '.join(sorted(set(failed)))})" if failed else ""
    return f"{TERMS - len(failed)} of {TERMS} logs can be read again{why}"


# --- 13: the disk is full when term and vote, and then an entry, are written ------------------------------------------


def their_full_disk(raftos: Any, folder: Path) -> str:
    raftos.configure({"log_path": str(folder), "serializer": JsonSerializer})
    state, log = raftos.storage.FileStorage(NODE), raftos.storage.Log(NODE)
    state.update({"term": 5, "voted_for": "x"})
    log.write(5, {"x": 1})
    refusal = _refused(lambda: state.update({"term": 6}), most=0)
    again = raftos.storage.FileStorage(NODE)
    kept = f"term {again.term}, vote {again.voted_for}" if again.exists("term") else "term and vote are gone"
    refusal_of_log = _refused(lambda: log.write(6, {"y": 2}), most=Path(log.filename).stat().st_size + 10)
    return f"{refusal}, then {kept}; {refusal_of_log}, then {_reading(lambda: len(raftos.storage.Log(NODE)))}"


def our_full_disk(folder: Path) -> str:
    entry, next_entry = Entry(1, 5, "data", b"x"), Entry(2, 5, "data", b"y")
    with ConsensusLog(folder) as log:
        log.save(HardState(5, "x", 0), None, None, [entry])
        refusal = _refused(lambda: log.save(HardState(6, None, 0), None, None, []), most=0)
    with ConsensusLog(folder) as log:
        kept = f"term {log.hard_state.term}, vote {log.hard_state.voted_for}"
        most = (folder / "log").stat().st_size + 10
        refusal_of_log = _refused(lambda: log.save(None, None, None, [next_entry]), most=most)

    def count() -> int:
        with ConsensusLog(folder) as log:
            return len(log.kept.entries)

    return f"{refusal}, then {kept}; {refusal_of_log}, then {_reading(count)}"


def _refused(write: Callable[[], object], most: int) -> str:
    with _files_of_at_most(most):
        try:
            write()
        except OSError as error:
            return type(error).__name__
    return "no error"


def _reading(count: Callable[[], int]) -> str:
    try:
        return f"{count()} of 1 entry"
    except Exception as error:  # whatever it raises is the result
        return f"the log can't be read ({type(error).__name__})"


@contextlib.contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """Stand in for a full disk: a write takes as many bytes as fit and the next one fails."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
