"""The consensus log on disk: nothing that was promised is forgotten (paper, figure 2; design.md, invariant 9).

Two files in one folder that one process holds at a time (``lock``):

- ``vote``: term and vote in one record, replaced atomically, because a vote belongs to its term;
- ``log``: one frame appended a save: a header (magic, length, CRC-32 of length and payload) and a payload (msgpack) of
  records: truncations, entries, a commit index. Truncation is a record too, so nothing is ever written over.

A frame that is not whole at the end of the file is what a crash in the middle of a write leaves (in any order of its
pages): nobody was told of it, so it is removed. Damage before the end is refused, for what follows it was promised.
"""

import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec
from msgspec import Struct

from appliance.consensus.messages import Entry, HardState, Index
from appliance.storage.files import fsync_folder, state_error, write_atomically, write_fully
from appliance.storage.lock import lock_folder
from appliance.words.errors import StateError
from appliance.words.ids import NodeName, Term

_HEADER = struct.Struct("<4sII")
_MAGIC = b"P2L1"


class _Written(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    pass


class _Vote(_Written, frozen=True, tag="vote"):
    term: Term
    voted_for: NodeName | None


class _Appended(_Written, frozen=True, tag="entry"):
    entry: Entry


class _Truncated(_Written, frozen=True, tag="truncate"):
    first: Index


class _Committed(_Written, frozen=True, tag="commit"):
    index: Index


_Record = _Vote | _Appended | _Truncated | _Committed
_Frame = tuple[_Record, ...]
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[_Frame] = msgspec.msgpack.Decoder(_Frame)


class ConsensusLog:
    """What consensus made durable, in one folder. Blocks on the disk: call it off the event loop.

    Attributes:
        hard_state, entries: what was durable when this was opened; later saves do not change them.

    Raises StateError if the folder can't be used, is used by another process, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._failed: StateError | None = None
        self._lock = lock_folder(folder)
        try:
            self._vote = self._read_vote()
            self.entries, commit, length = _replay(folder / "log")
            if self.entries and self.entries[-1].term > self._vote.term:
                raise StateError(
                    f"{folder / 'vote'} is older than {folder / 'log'}; restore both from one moment, or empty the "
                    f"folder and let the node join anew"
                )
            self.hard_state = HardState(self._vote.term, self._vote.voted_for, commit)
            self._handle = self._open_log(length)
        except BaseException:
            os.close(self._lock)
            raise

    def save(self, hard_state: HardState | None, truncate_from: Index | None, entries: Sequence[Entry]) -> None:
        """Make a ``Ready``'s changes durable, in its order; they are when this returns.

        Raises StateError if the disk fails. The file's end is unknown then, so every later save raises it again until
        the folder is opened anew.
        """
        if self._failed is not None:
            raise self._failed
        try:
            if hard_state is not None:
                self._save_vote(_Vote(hard_state.term, hard_state.voted_for))
            records: list[_Record] = [] if truncate_from is None else [_Truncated(truncate_from)]
            records += [_Appended(entry) for entry in entries]
            if hard_state is not None and hard_state.commit > 0:
                records.append(_Committed(hard_state.commit))
            if records:
                self._append(_frame(tuple(records)))
        except StateError as error:
            self._failed = error
            raise

    def close(self) -> None:
        """Let the folder go."""
        os.close(self._handle)
        os.close(self._lock)
        self._failed = StateError(f"{self._folder} was closed")

    def __enter__(self) -> "ConsensusLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_vote(self) -> _Vote:
        path = self._folder / "vote"
        content = _read(path)
        if not content:
            if _read(self._folder / "log"):
                raise StateError(f"{path} is missing or empty beside a log; restore it, or empty the folder and rejoin")
            return _Vote(0, None)
        match _parse(content, 0):
            case (_Vote() as vote,), end if end == len(content):
                return vote
        raise StateError(f"{path} is damaged; restore it from a copy, or empty the folder and let the node rejoin")

    def _save_vote(self, vote: _Vote) -> None:
        if vote != self._vote:
            write_atomically(self._folder / "vote", _frame((vote,)))
            self._vote = vote

    def _open_log(self, length: int) -> int:
        """Open for appending, with a torn end removed durably."""
        path = self._folder / "log"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(handle, length)
                os.fsync(handle)
                fsync_folder(self._folder)
            except BaseException:
                os.close(handle)
                raise
        except StateError:
            raise
        except OSError as error:
            raise state_error("open", path, error) from error
        return handle

    def _append(self, content: bytes) -> None:
        try:
            write_fully(self._handle, content)
            os.fdatasync(self._handle)
        except OSError as error:
            raise state_error("write", self._folder / "log", error) from error


def _replay(path: Path) -> tuple[list[Entry], Index, int]:
    """Return the entries, the commit index and the length of what is whole in a log file."""
    content = _read(path)
    entries: list[Entry] = []
    commit, position = 0, 0
    while position < len(content):
        frame, end = _parse(content, position)
        if frame is None and _is_torn(content, position):
            break
        for record in frame or ():
            match record:
                case _Appended() if record.entry.index == len(entries) + 1:
                    entries.append(record.entry)
                case _Truncated() if commit < record.first <= len(entries):
                    del entries[record.first - 1 :]
                case _Committed() if commit <= record.index <= len(entries):
                    commit = record.index
                case _:
                    raise _damaged(path, position)
        if frame is None:
            raise _damaged(path, position)
        position = end
    return entries, commit, position


def _damaged(path: Path, position: int) -> StateError:
    return StateError(
        f"{path} is damaged at byte {position}; restore the folder from a copy, or empty it and let the node join anew"
    )


def _is_torn(content: bytes, position: int) -> bool:
    """Say whether the bytes from ``position`` on can be what an unfinished write left, rather than later damage.

    An unfinished write has nothing whole after it: not one frame that a save had promised.
    """
    following = content.find(_MAGIC, position + 1)
    while following >= 0:
        if _parse(content, following)[0] is not None:
            return False
        following = content.find(_MAGIC, following + 1)
    return True


def _frame(records: _Frame) -> bytes:
    payload = _encoder.encode(records)
    return _HEADER.pack(_MAGIC, len(payload), _checksum(payload)) + payload


def _checksum(payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<I", len(payload))))


def _parse(content: bytes, position: int) -> tuple[_Frame | None, int]:
    """Return the frame at ``position`` and where it ends; None if no whole one is there."""
    start = position + _HEADER.size
    if start > len(content):
        return None, position
    magic, length, checksum = _HEADER.unpack_from(content, position)
    payload = content[start : start + length]
    if magic != _MAGIC or len(payload) < length or _checksum(payload) != checksum:
        return None, position
    try:
        return _decoder.decode(payload), start + length
    except msgspec.MsgspecError:
        return None, position


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise state_error("read", path, error) from error
