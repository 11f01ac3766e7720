"""The consensus log on disk: what was promised comes back; torn ends go, damage is refused."""

import errno
import os
import time
from pathlib import Path

import msgspec
import pytest

from appliance.consensus import membership
from appliance.consensus.messages import Entry, HardState
from appliance.consensus.snapshot import Compaction, Snapshot
from appliance.storage import frames
from appliance.storage.log import ConsensusLog
from appliance.words.errors import StateError


def entry(index: int, term: int = 1) -> Entry:
    return Entry(index, term, "data", b"entry %d of %d" % (index, term))


def fill(folder: Path) -> None:
    """Write a history of three saves."""
    with ConsensusLog(folder) as log:
        log.save(HardState(1, "node0", 0), None, None, [entry(1), entry(2), entry(3)])
        log.save(HardState(2, None, 1), None, 3, [entry(3, 2)])
        log.save(None, None, None, [entry(4, 2)])


def content(folder: Path) -> tuple[HardState, list[Entry]]:
    with ConsensusLog(folder) as log:
        return log.hard_state, list(log.kept.entries)


def test_a_new_folder_is_empty(tmp_path: Path) -> None:
    assert content(tmp_path / "consensus") == (HardState(), [])
    assert (tmp_path / "consensus").stat().st_mode & 0o777 == 0o700


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    fill(tmp_path)
    assert content(tmp_path) == (HardState(2, None, 1), [entry(1), entry(2), entry(3, 2), entry(4, 2)])
    assert content(tmp_path) == (HardState(2, None, 1), [entry(1), entry(2), entry(3, 2), entry(4, 2)])


def test_a_vote_given_later_in_a_term_comes_back(tmp_path: Path) -> None:
    with ConsensusLog(tmp_path) as log:
        log.save(HardState(3, None, 0), None, None, [])
        log.save(HardState(3, "node1", 0), None, None, [])
    assert content(tmp_path)[0] == HardState(3, "node1", 0)


def test_a_header_without_its_rest_is_no_frame() -> None:
    """A block of the file that has not arrived is zeros: a length of 0, and the CRC-32 of nothing."""
    assert frames.parse(frames.frame(b"")[:4] + bytes(8), 0) == (None, 0)
    assert frames.parse(frames.frame(b""), 0) == (b"", 12)


def test_every_cut_of_the_last_write_is_recovered(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / "log"
    before = path.stat().st_size
    with ConsensusLog(tmp_path) as log:
        log.save(HardState(2, None, 4), None, 4, [entry(4, 2), entry(5, 2)])
    whole = path.read_bytes()
    for length in range(before, len(whole)):
        for tail in (b"", bytes(len(whole) - length)):  # a file system may lengthen a file before it fills it
            path.write_bytes(whole[:length] + tail)
            state, entries = content(tmp_path)
            assert (state.commit, len(entries)) == (1, 4), length
            assert path.stat().st_size == before
    path.write_bytes(whole)
    assert content(tmp_path)[0].commit == 4


def test_pages_of_the_last_write_may_arrive_in_any_order(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / "log"
    before = path.stat().st_size
    with ConsensusLog(tmp_path) as log:
        log.save(None, None, None, [entry(5, 2), entry(6, 2), entry(7, 2)])
    damaged = bytearray(path.read_bytes())
    damaged[before + 20 : before + 40] = bytes(20)
    path.write_bytes(damaged)
    assert len(content(tmp_path)[1]) == 4


def test_damage_in_the_middle_is_refused_at_every_byte(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / "log"
    whole = path.read_bytes()
    last = whole.rindex(b"P2L1")
    for position in range(last):
        damaged = bytearray(whole)
        damaged[position] ^= 0x5A
        path.write_bytes(damaged)
        with pytest.raises(StateError, match=r"log is damaged at byte \d+; restore the folder"):
            ConsensusLog(tmp_path)
        assert path.read_bytes() == bytes(damaged), "a refused file is left as it is"


def test_a_damaged_or_missing_vote_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    path = tmp_path / "vote"
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x5A
        path.write_bytes(damaged)
        with pytest.raises(StateError, match="vote is damaged"):
            ConsensusLog(tmp_path)
    path.unlink()
    with pytest.raises(StateError, match="missing or empty beside a log"):
        ConsensusLog(tmp_path)


def test_a_vote_older_than_the_log_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    with ConsensusLog(tmp_path / "other") as log:
        log.save(HardState(1, "node0", 0), None, None, [])
    (tmp_path / "vote").write_bytes((tmp_path / "other" / "vote").read_bytes())
    with pytest.raises(StateError, match="is older than"):
        ConsensusLog(tmp_path)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with ConsensusLog(tmp_path), pytest.raises(StateError, match="is used by another process"):
        ConsensusLog(tmp_path)
    assert content(tmp_path) == (HardState(), [])


@pytest.mark.parametrize(("call", "code"), [("write", errno.ENOSPC), ("fdatasync", errno.EIO), ("replace", errno.EIO)])
def test_after_a_failed_write_nothing_more_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    fill(tmp_path)
    with ConsensusLog(tmp_path) as log:
        real = os.write

        def fail(handle: int, *rest: bytes) -> None:
            if call == "write":
                real(handle, rest[0][:7])
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, call, fail)
        with pytest.raises(StateError, match="disk"):
            log.save(HardState(3, "node1", 1), None, None, [entry(5, 3)])
        monkeypatch.undo()
        with pytest.raises(StateError, match="disk"):
            log.save(None, None, None, [entry(5, 3)])
    state, entries = content(tmp_path)
    assert state.term in {2, 3}
    assert entries[:4] == [entry(1), entry(2), entry(3, 2), entry(4, 2)]


def test_vote_and_term_are_durable_before_what_is_of_that_term(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("fsync", "fdatasync", "replace"):
        real = getattr(os, name)

        def record(*arguments: object, name: str = name, real: object = real) -> object:
            calls.append(name)
            assert callable(real)
            return real(*arguments)

        monkeypatch.setattr(os, name, record)
    with ConsensusLog(tmp_path) as log:
        calls.clear()
        log.save(HardState(1, "node0", 0), None, None, [entry(1)])
        assert calls == ["fsync", "replace", "fsync", "fdatasync"]
        calls.clear()
        log.save(HardState(1, "node0", 1), None, None, [entry(2)])
        assert calls == ["fdatasync"]


def compaction(index: int, term: int, start: int, *entries: Entry) -> Compaction:
    snapshot = Snapshot(index, term, membership.of("ab"), {"a": 1}, "a", {}, b"state")
    return Compaction(snapshot, start, term, entries)


def kept(folder: Path) -> tuple[int, int, list[Entry]]:
    """Return what the snapshot covers (0: nothing), where the log begins, and its entries."""
    with ConsensusLog(folder) as log:
        snapshot = log.kept.snapshot
        return 0 if snapshot is None else snapshot.index, log.kept.start, list(log.kept.entries)


def test_a_log_that_begins_anew_comes_back_with_its_snapshot(tmp_path: Path) -> None:
    fill(tmp_path)
    with ConsensusLog(tmp_path) as log:
        log.save(HardState(2, None, 4), compaction(4, 2, 3, entry(4, 2)), None, [])
        log.save(None, None, None, [entry(5, 2)])
        log.save(None, None, 5, [entry(5, 2), entry(6, 2)])
    assert kept(tmp_path) == (4, 3, [entry(4, 2), entry(5, 2), entry(6, 2)])
    assert content(tmp_path)[0] == HardState(2, None, 4)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_crash_at_either_replace_of_a_compaction_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """``snapshot`` is replaced first, then ``log``: in between the old log stands beside the new snapshot."""
    fill(tmp_path)
    real, calls = os.replace, 0

    def fail(source: str, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target)

    with ConsensusLog(tmp_path) as log:
        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(StateError, match="disk"):
            log.save(None, compaction(4, 2, 4), None, [])
        monkeypatch.undo()
    covered = 0 if failing == 1 else 4
    assert kept(tmp_path) == (covered, 0, [entry(1), entry(2), entry(3, 2), entry(4, 2)])
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_snapshot_that_the_log_does_not_reach_replaces_it_for_good(tmp_path: Path) -> None:
    """What a crash in mid-installation leaves: the old log is not to be appended to."""
    fill(tmp_path)
    with ConsensusLog(tmp_path / "other") as log:
        log.save(HardState(3, None, 0), None, None, [])
        log.save(None, compaction(9, 3, 9), None, [])
    for name in ("snapshot", "vote"):
        (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with ConsensusLog(tmp_path) as log:
        assert (log.kept.start, log.kept.entries, log.hard_state.commit) == (9, (), 9)
        log.save(None, None, None, [entry(10, 3)])
    assert kept(tmp_path) == (9, 9, [entry(10, 3)])


def test_a_damaged_or_missing_part_of_a_compacted_log_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    with ConsensusLog(tmp_path) as log:
        log.save(HardState(2, None, 4), compaction(4, 2, 3, entry(4, 2)), None, [])
    for name in ("snapshot", "log"):
        path = tmp_path / name
        whole = path.read_bytes()
        for position in range(len(whole)):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x5A]) + whole[position + 1 :])
            with pytest.raises(StateError, match=rf"{name} is damaged"):
                ConsensusLog(tmp_path)
        path.unlink()
        with pytest.raises(StateError, match="is missing"):
            ConsensusLog(tmp_path)
        path.write_bytes(whole)
    assert kept(tmp_path) == (4, 3, [entry(4, 2)])


_ONE_TO_THREE = [("entry", entry(1)), ("entry", entry(2)), ("entry", entry(3, 2))]
_IN_BOTH = membership.Membership({"a": "place"}, {"a": "place"})


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([("entry", entry(1, 2)), ("entry", entry(2, 1))], id="terms that fall"),
        pytest.param([("begins", 4, 2), ("entry", entry(5, 1))], id="a term below that of the entry before"),
        pytest.param(
            [*_ONE_TO_THREE, ("truncate", 3), ("entry", entry(3, 3)), ("entry", entry(4, 2))],
            id="terms that fall after a truncation",
        ),
        pytest.param([("begins", 4, 0)], id="a beginning after an entry of no term"),
        pytest.param([("entry", Entry(1, 1, "members", b"none"))], id="no membership"),
        pytest.param(
            [("entry", Entry(1, 1, "members", membership.encode_membership(_IN_BOTH)))], id="a node in both parts"
        ),
        pytest.param([*_ONE_TO_THREE, ("commit", 4)], id="a commit after the last entry"),
        pytest.param([*_ONE_TO_THREE, ("commit", 2), ("truncate", 2)], id="committed entries taken back"),
    ],
)
def test_what_no_node_writes_is_refused_for_all_its_sound_checksums(tmp_path: Path, records: list[object]) -> None:
    fill(tmp_path)
    (tmp_path / "log").write_bytes(frames.frame(msgspec.msgpack.encode(records)))
    for _ in range(2):
        with pytest.raises(StateError, match="log is damaged at byte 0; restore the folder from a copy, or empty it"):
            ConsensusLog(tmp_path)


@pytest.mark.parametrize(
    ("records", "index", "term"),
    [
        pytest.param([*_ONE_TO_THREE, ("commit", 3)], 2, 2, id="another entry below the last committed"),
        pytest.param([*_ONE_TO_THREE, ("commit", 3)], 3, 1, id="another entry in the place of the last committed"),
        pytest.param([*_ONE_TO_THREE, ("commit", 3)], 9, 1, id="later, and of an earlier term than what is committed"),
        pytest.param([("begins", 4, 2), ("entry", entry(5, 2))], 4, 1, id="another entry where the log begins"),
    ],
)
def test_a_snapshot_that_contradicts_what_is_committed_is_refused(
    tmp_path: Path, records: list[object], index: int, term: int
) -> None:
    """It would take committed entries back: the log can only be discarded as far as it was not committed."""
    fill(tmp_path)
    with ConsensusLog(tmp_path / "other") as log:
        log.save(HardState(2, None, 0), compaction(index, term, index), None, [])
    (tmp_path / "snapshot").write_bytes((tmp_path / "other" / "snapshot").read_bytes())
    (tmp_path / "log").write_bytes(frames.frame(msgspec.msgpack.encode(records)))
    for _ in range(2):
        with pytest.raises(StateError, match=rf"ends with entry {index} of term {term}, contradicts .*; restore the"):
            ConsensusLog(tmp_path)


def test_a_snapshot_may_replace_what_was_not_committed(tmp_path: Path) -> None:
    fill(tmp_path)
    with ConsensusLog(tmp_path / "other") as log:
        log.save(HardState(3, None, 0), compaction(3, 3, 3), None, [])
    for name in ("snapshot", "vote"):
        (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
    assert kept(tmp_path) == (3, 3, [])


def test_a_snapshot_is_durable_before_the_log_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    calls: list[str] = []
    real_replace, real_fsync = os.replace, os.fsync

    def replace(source: str, target: Path) -> None:
        calls.append(target.name)
        real_replace(source, target)

    def fsync(handle: int) -> None:
        calls.append("fsync")
        real_fsync(handle)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "fsync", fsync)
    with ConsensusLog(tmp_path) as log:
        calls.clear()
        log.save(HardState(2, None, 4), compaction(4, 2, 4), None, [])
    assert calls[:6] == ["fsync", "snapshot", "fsync", "fsync", "log", "fsync"]


def test_an_append_costs_the_same_in_a_long_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", lambda _handle: None)
    with ConsensusLog(tmp_path) as log:
        log.save(HardState(1, None, 0), None, None, [])

        def cost(first: int, count: int) -> float:
            start = time.process_time()
            for index in range(first, first + count):
                log.save(None, None, None, [entry(index)])
            return time.process_time() - start

        early = cost(1, 1000)
        log.save(None, None, None, [entry(index) for index in range(1001, 50_001)])
        assert cost(50_001, 1000) < 5 * early + 0.1


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="can't open"):
        ConsensusLog(tmp_path / "file" / "consensus")
