"""The consensus log on disk: nothing that was promised is forgotten (paper, figure 2; design.md, invariant 9).

Three files in one folder that one process holds at a time (``lock``), all of them made of ``frames``:

- ``vote``: term and vote in one record, replaced atomically, because a vote belongs to its term;
- ``snapshot``: what the entries amount to that the log has no more; replaced atomically;
- ``log``: one frame appended a save, its payload (msgpack) a sequence of records: truncations, entries, a commit index.
  Truncation is a record too, so nothing is ever written over. When the log begins anew after a snapshot, the whole file
  is replaced atomically, and its first record says after which entry it begins.

A frame that is not whole at the end of the log is what a crash in the middle of a write leaves (in any order of its
pages): nobody was told of it, so it is removed. Damage before the end is refused, for what follows it was promised.
So is what no correct node writes, however sound its checksums: checksums keep nobody from writing a file.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec
from msgspec import Struct

from appliance.consensus.membership import membership_of
from appliance.consensus.messages import Entry, HardState, Index
from appliance.consensus.snapshot import Compaction, Kept, Snapshot, decode_snapshot, encode_snapshot
from appliance.storage import frames
from appliance.storage.files import fsync_folder, state_error, write_atomically, write_fully
from appliance.storage.lock import lock_folder
from appliance.words.errors import RemoteError, StateError
from appliance.words.ids import NodeName, Term


class _Written(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    pass


class _Vote(_Written, frozen=True, tag="vote"):
    term: Term
    voted_for: NodeName | None


class _Begins(_Written, frozen=True, tag="begins"):
    after: Index
    term: Term


class _Appended(_Written, frozen=True, tag="entry"):
    entry: Entry


class _Truncated(_Written, frozen=True, tag="truncate"):
    first: Index


class _Committed(_Written, frozen=True, tag="commit"):
    index: Index


_Record = _Vote | _Begins | _Appended | _Truncated | _Committed
_Records = tuple[_Record, ...]
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[_Records] = msgspec.msgpack.Decoder(_Records)
_MEND = "restore the folder from a copy, or empty it and let the node join anew"


class ConsensusLog:
    """What consensus made durable, in one folder. Blocks on the disk: call it off the event loop.

    Attributes:
        hard_state, kept: what was durable when this was opened; later saves do not change them.

    Raises StateError if the folder can't be used, is used by another process, or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._failed: StateError | None = None
        self._handle: int | None = None
        self._lock = lock_folder(folder)
        try:
            self._vote = self._read_vote()
            snapshot = self._read_snapshot()
            found = _Replay(folder / "log", replaced=snapshot is not None)
            self.kept = self._reconciled(snapshot, found)
            last_term = self.kept.entries[-1].term if self.kept.entries else self.kept.start_term
            if last_term > self._vote.term:
                raise StateError(f"{folder / 'vote'} is older than {folder / 'log'}; {_MEND}")
            commit = max(found.commit, 0 if self.kept.snapshot is None else self.kept.snapshot.index)
            self.hard_state = HardState(self._vote.term, self._vote.voted_for, commit)
            if (self.kept.start, self.kept.start_term) != (found.start, found.start_term):
                assert self.kept.snapshot is not None  # noqa: S101 - only a snapshot replaces a log
                self._rewrite(Compaction(self.kept.snapshot, self.kept.start, self.kept.start_term, ()), None)
            else:
                self._open_log(found.length)
        except BaseException:
            os.close(self._lock)
            raise

    def save(
        self,
        hard_state: HardState | None,
        compaction: Compaction | None,
        truncate_from: Index | None,
        entries: Sequence[Entry],
    ) -> None:
        """Make a ``Ready``'s changes durable, in its order; they are when this returns.

        Raises StateError if the disk fails. The file's end is unknown then, so every later save raises it again until
        the folder is opened anew.
        """
        if self._failed is not None:
            raise self._failed
        try:
            if hard_state is not None:
                self._save_vote(_Vote(hard_state.term, hard_state.voted_for))
            if compaction is not None:
                write_atomically(self._folder / "snapshot", frames.frame(encode_snapshot(compaction.snapshot)))
                self._rewrite(compaction, hard_state)
            else:
                records: list[_Record] = [] if truncate_from is None else [_Truncated(truncate_from)]
                records += [_Appended(entry) for entry in entries]
                records += _commit(hard_state)
                if records:
                    self._append(_frame(tuple(records)))
        except StateError as error:
            self._failed = error
            raise

    def close(self) -> None:
        """Let the folder go."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
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
                raise StateError(f"{path} is missing or empty beside a log; {_MEND}")
            return _Vote(0, None)
        match _parse(content, 0):
            case (_Vote() as vote,), end if end == len(content):
                return vote
        raise StateError(f"{path} is damaged; {_MEND}")

    def _read_snapshot(self) -> Snapshot | None:
        path = self._folder / "snapshot"
        content = _read(path)
        if not content:
            return None
        payload, end = frames.parse(content, 0)
        if payload is None or end != len(content):
            raise StateError(f"{path} is damaged; {_MEND}")
        try:
            return decode_snapshot(payload)
        except RemoteError as error:
            raise StateError(f"{path} can't be read ({error}); {_MEND}") from None

    def _reconciled(self, snapshot: Snapshot | None, found: "_Replay") -> Kept:
        """Put snapshot and log together, as a crash may have left the two."""
        if found.start > (0 if snapshot is None else snapshot.index):
            raise StateError(
                f"{self._folder / 'snapshot'} is missing or older than the log, which begins after entry "
                f"{found.start}; {_MEND}"
            )
        whole = Kept(found.entries, found.start, found.start_term, snapshot)
        kept = whole.reconciled()
        if snapshot is not None and kept is not whole and not found.can_give_way_to(snapshot):
            raise StateError(
                f"{self._folder / 'snapshot'}, which ends with entry {snapshot.index} of term {snapshot.term}, "
                f"contradicts {self._folder / 'log'}, of which entry {found.committed} is committed; {_MEND}"
            )
        return kept

    def _save_vote(self, vote: _Vote) -> None:
        if vote != self._vote:
            write_atomically(self._folder / "vote", _frame((vote,)))
            self._vote = vote

    def _rewrite(self, compaction: Compaction, hard_state: HardState | None) -> None:
        """Replace the log by one that begins after ``compaction.start``, and append to that one from now on."""
        records: list[_Record] = [_Begins(compaction.start, compaction.start_term)]
        records += [_Appended(entry) for entry in compaction.entries]
        content = _frame((*records, *_commit(hard_state)))
        write_atomically(self._folder / "log", content)
        self._open_log(len(content))

    def _open_log(self, length: int) -> None:
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
        if self._handle is not None:
            os.close(self._handle)
        self._handle = handle

    def _append(self, content: bytes) -> None:
        assert self._handle is not None  # noqa: S101 - it is open between start and close
        try:
            write_fully(self._handle, content)
            os.fdatasync(self._handle)
        except OSError as error:
            raise state_error("write", self._folder / "log", error) from error


class _Replay:
    """What is whole in a log file.

    Attributes:
        start, start_term: after which entry it begins.
        length: bytes of what is whole.

    Args:
        replaced: the file was put there as a whole beside a snapshot, so that its first frame can't be a torn write.
    """

    def __init__(self, path: Path, *, replaced: bool) -> None:
        self.start: Index = 0
        self.start_term: Term = 0
        self.entries: list[Entry] = []
        self.commit: Index = 0
        self.length = 0
        if replaced and not path.exists():
            raise StateError(f"{path} is missing beside a snapshot; {_MEND}")
        content = _read(path)
        while self.length < len(content):
            records, end = _parse(content, self.length)
            may_be_torn = self.length > 0 or not replaced
            if records is None and may_be_torn and frames.is_torn(content, self.length):
                break
            if records is None or not all(map(self._take, records)):
                raise StateError(f"{path} is damaged at byte {self.length}; {_MEND}")
            self.length = end

    @property
    def committed(self) -> Index:
        """Up to where the file says what is committed; what it leaves out is."""
        return max(self.start, self.commit)

    def can_give_way_to(self, snapshot: Snapshot) -> bool:
        """Say whether a snapshot that the entries don't lead to can replace them: only what is not committed may go."""
        return snapshot.index > self.committed and snapshot.term >= self._term_at(self.committed)

    def _term_at(self, index: Index) -> Term:
        return self.start_term if index == self.start else self.entries[index - self.start - 1].term

    def _take(self, record: _Record) -> bool:
        """Take in the next record; False if it can't follow the ones before."""
        last = self.start + len(self.entries)
        match record:
            case _Begins() if self.length == 0 and not self.entries and (record.after == 0) == (record.term == 0):
                self.start, self.start_term = record.after, record.term
            case _Appended() if record.entry.index == last + 1 and record.entry.term >= self._term_at(last):
                if not _is_readable(record.entry):
                    return False
                self.entries.append(record.entry)
            case _Truncated() if max(self.commit, self.start) < record.first <= last:
                del self.entries[record.first - self.start - 1 :]
            case _Committed() if self.commit <= record.index <= last:
                self.commit = record.index
            case _:
                return False
        return True


def _is_readable(entry: Entry) -> bool:
    """Say whether an entry holds what its kind promises."""
    if entry.kind != "members":
        return True
    try:
        membership_of(entry)
    except RemoteError:
        return False
    return True


def _commit(hard_state: HardState | None) -> list[_Record]:
    return [] if hard_state is None or hard_state.commit == 0 else [_Committed(hard_state.commit)]


def _frame(records: _Records) -> bytes:
    return frames.frame(_encoder.encode(records))


def _parse(content: bytes, position: int) -> tuple[_Records | None, int]:
    """Return the records of the frame at ``position`` and where it ends; None if no whole one is there."""
    payload, end = frames.parse(content, position)
    try:
        return (None, position) if payload is None else (_decoder.decode(payload), end)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None, position


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise state_error("read", path, error) from error
