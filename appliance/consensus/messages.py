"""What consensus keeps and what it says: hard state, entries, messages, and their encoding (msgpack, as arrays).

A message fits one datagram: entries are small (``ENTRY_LIMIT``), and ``batch`` takes no more of them than one encoded
message of about 1,200 bytes carries. A snapshot does not fit: it is only offered here, and travels another way.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName, Term

ENTRY_LIMIT = 1024
"""Bytes of data in one entry, at most."""

BATCH_LIMIT = 1140
"""Bytes of encoded entries in one message: room for one of the largest, so that every batch moves on."""

MESSAGE_LIMIT = 1250
"""Bytes of an encoded message, at most: a batch of entries and what is around it."""

Index = Annotated[int, Meta(ge=0, lt=2**62)]
"""Place of an entry in the log; the first is 1, and 0 is before the first."""


Kind = Literal["no-op", "data", "members"]
"""What an entry is: the first of a leader's term, the caller's, or a ``Membership``."""


class Record(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Something that consensus keeps or says."""


class HardState(Record, frozen=True):
    """What must be durable before anything that depends on it is said (paper, figure 2, "persistent state").

    Attributes:
        commit: an index that was committed when this was written; may trail the truth, never leads it.
    """

    term: Term = 0
    voted_for: NodeName | None = None
    commit: Index = 0


class Request(Record, frozen=True):
    """Names what a client asks for, so that asking again does nothing again (thesis, 6.3).

    Attributes:
        number: larger for each new request of the client, which has one under way at a time.
    """

    client: Annotated[str, Meta(min_length=1, max_length=63)]
    number: Annotated[int, Meta(ge=0, lt=2**62)]


class Entry(Record, frozen=True):
    """One entry of the log.

    Attributes:
        kind: ``no-op`` is the first entry of each leader's term (thesis, 6.4), and its data is the leader's name;
            ``members`` holds an encoded ``Membership``, which counts from the moment it is in a log (thesis, 4.1).
        request: None for an entry that nobody asks for twice.
    """

    index: Annotated[int, Meta(ge=1, lt=2**62)]
    term: Annotated[int, Meta(ge=1, lt=2**62)]
    kind: Kind
    data: Annotated[bytes, Meta(max_length=ENTRY_LIMIT)]
    request: Request | None = None


class _Message(Record, frozen=True, tag=True):
    pass


class RequestVote(_Message, frozen=True, tag="vote"):
    """A candidate asks for a vote (paper, figure 2; thesis, 9.6 for the trial before it).

    Attributes:
        term: the candidate's term; in a pre-vote the one that it would stand in.
        pre_vote: only asks whether the vote would be given; binds nobody.
        transfer: the leader itself wants this election (thesis, 3.10), so its being alive is no reason to refuse.
    """

    term: Term
    last_index: Index
    last_term: Term
    pre_vote: bool
    transfer: bool


class RequestVoteReply(_Message, frozen=True, tag="voted"):
    """The answer to a ``RequestVote``.

    Attributes:
        term: a granted pre-vote echoes the asked term; anything else carries the voter's own.
    """

    term: Term
    pre_vote: bool
    granted: bool


class AppendEntries(_Message, frozen=True, tag="append"):
    """The leader's entries that follow ``previous_index``; without entries a heartbeat (paper, figure 2).

    Attributes:
        beat: number of the leader's heartbeat that this belongs to, echoed in the answer: so the leader knows that it
            still led when it sent that (thesis, 6.4); 0 asks for no such proof.
    """

    term: Term
    previous_index: Index
    previous_term: Term
    commit: Index
    entries: Annotated[tuple[Entry, ...], Meta(max_length=1024)]
    beat: Index = 0


class AppendEntriesReply(_Message, frozen=True, tag="appended"):
    """The answer to an ``AppendEntries`` (paper, figure 2, and the fast back-off at the end of 5.3).

    Attributes:
        index: accepted: the log equals the leader's up to here; refused: the ``previous_index`` that did not fit.
        hint_index, hint_term: refused: the last own entry that can still be equal, as far as the follower knows.
        beat: of what is answered.
    """

    term: Term
    accepted: bool
    index: Index
    hint_index: Index = 0
    hint_term: Term = 0
    beat: Index = 0


class SnapshotOffer(_Message, frozen=True, tag="snapshot"):
    """A heartbeat to a follower that lacks entries which the leader's log no longer has (thesis, 5.3).

    The follower answers with ``AppendEntriesReply``, and gets the snapshot's bytes another way (``Ready.fetch``).

    Attributes:
        index: the snapshot holds all up to here.
    """

    term: Term
    index: Index
    beat: Index


class TimeoutNow(_Message, frozen=True, tag="stand"):
    """The leader asks a follower to stand for election at once (thesis, 3.10)."""

    term: Term


class Ping(_Message, frozen=True, tag="ping"):
    """Says only that its sender is alive; consensus itself ignores it."""


Message = RequestVote | RequestVoteReply | AppendEntries | AppendEntriesReply | SnapshotOffer | TimeoutNow | Ping

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return a message's bytes."""
    return _encoder.encode(message)


def decode(content: bytes) -> Message:
    """Parse a message. Raises RemoteError if the bytes are none, or one that no correct node sends.

    The reasons are fixed sentences: msgspec's own can quote what a peer wrote, which would then stand in the log.
    """
    try:
        message = _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RemoteError("not a message of consensus") from None
    if isinstance(message, AppendEntries):
        check_sequence(message)
    return message


def check_sequence(message: AppendEntries) -> None:
    """Raise RemoteError unless the entries follow one another as in a leader's log (paper, figure 3)."""
    index, term = message.previous_index, message.previous_term
    for entry in message.entries:
        index += 1
        if entry.index != index or entry.term < term:
            raise RemoteError("entries that don't follow one another")
        term = entry.term
    if term > message.term:
        raise RemoteError("entries of a later term than their leader's")


def batch(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the first entries, as many as one message carries; at least one if there is any.

    Raises ValueError if that one is too large: no correct leader makes it, and to send nothing would move nothing on.
    """
    taken: list[Entry] = []
    size = 0
    for entry in entries:
        size += len(_encoder.encode(entry))
        if size > BATCH_LIMIT:
            if not taken:
                raise ValueError(f"an entry of {size} bytes, and a message carries {BATCH_LIMIT}")
            break
        taken.append(entry)
    return tuple(taken)
