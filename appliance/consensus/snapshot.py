"""A snapshot stands for all entries up to an index (paper, 7; thesis, 5): the caller's state, and consensus' own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from appliance.consensus.ledger import CLIENTS, Ledger
from appliance.consensus.membership import Membership, check_membership
from appliance.consensus.messages import Entry, Index, Record
from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName, Term

STATE_LIMIT = 32 * 2**20
"""Bytes of the caller's state, at most."""


class Snapshot(Record, frozen=True):
    """All that the entries up to ``index`` amount to.

    Attributes:
        term: of the entry at ``index``.
        membership: in force there.
        turns, last_leader, done: of the ``Ledger``.
        state: what the caller made of the entries.
    """

    index: Annotated[int, Meta(ge=1, lt=2**62)]
    term: Annotated[int, Meta(ge=1, lt=2**62)]
    membership: Membership
    turns: dict[NodeName, Index]
    last_leader: NodeName | None
    done: Annotated[dict[str, tuple[Index, Index]], Meta(max_length=CLIENTS)]
    state: Annotated[bytes, Meta(max_length=STATE_LIMIT)]

    @property
    def ledger(self) -> Ledger:
        """A ledger of its own, to go on from here."""
        return Ledger(self.turns, self.last_leader, self.done)


@dataclass(frozen=True, slots=True)
class Compaction:
    """The log begins anew: a snapshot, and the whole log after ``start``.

    Attributes:
        start, start_term: the last entry that is left out, and its term; ``start`` is at most ``snapshot.index``.
        entries: all that follow ``start``.
    """

    snapshot: Snapshot
    start: Index
    start_term: Term
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """A log as it was kept: what follows ``start``, and a snapshot that covers at least what is left out."""

    entries: Sequence[Entry] = ()
    start: Index = 0
    start_term: Term = 0
    snapshot: Snapshot | None = None

    def reconciled(self) -> "Kept":
        """Return what is to be used after a crash: a log that a newer snapshot has not replaced yet may not fit it.

        A snapshot is made durable before the log that begins anew with it (``Ready``). If the log holds the
        snapshot's last entry, it goes on from there; any other was to be discarded as a whole (paper, figure 13).
        """
        snapshot = self.snapshot
        if snapshot is None or (snapshot.index, snapshot.term) == (self.start, self.start_term):
            return self
        place = snapshot.index - self.start - 1
        if 0 <= place < len(self.entries) and self.entries[place].term == snapshot.term:
            return self
        return Kept((), snapshot.index, snapshot.term, snapshot)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Snapshot)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return a snapshot's bytes."""
    return _encoder.encode(snapshot)


def decode_snapshot(content: bytes | bytearray) -> Snapshot:
    """Parse a snapshot. Raises RemoteError, in a fixed sentence, if it is none, or one that no correct node makes."""
    try:
        snapshot = _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RemoteError("not a snapshot of consensus") from None
    check_membership(snapshot.membership)
    return snapshot
