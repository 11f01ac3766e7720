"""What the first bytes of a message tell of it, so that one that is of no use can be let go before the rest is read."""

import struct
from collections.abc import Iterator
from typing import get_args

from msgspec import Struct

from appliance.envelopes.format import HeaderStart, peek_header
from appliance.words.errors import RemoteError
from appliance.words.ids import Term
from appliance.words.messages import HandedOn, MeshMessage, Sealed, Signed, SnapshotReply

HEAD_BYTES = 256
"""So many first bytes are looked at: each message's type, names and term are among them, and an envelope's start."""

SHORT_MESSAGE_BYTES = 128 * 1024
"""A message that carries no model and no snapshot is shorter."""

_TYPES = frozenset(kind.__name__ for kind in get_args(MeshMessage))
_LONG = frozenset(kind.__name__ for kind in (HandedOn, Sealed, Signed, SnapshotReply))
_ENVELOPES = frozenset(kind.__name__ for kind in (HandedOn, Sealed))


class Head(Struct, frozen=True):
    """The beginning of a message. A hint, and no more: the whole message may still be none.

    Attributes:
        type: the message's type.
        statement: of a ``Signed``, the type of what is signed, if that is among the first bytes; else empty.
        term: the term that it names, or that its statement or its envelope names; None if it is not that far in front.
        envelope: the start of its envelope's header, for the types that carry one.
    """

    type: str
    statement: str = ""
    term: Term | None = None
    envelope: HeaderStart | None = None


def read_head(start: bytes | bytearray | memoryview, length: int) -> Head:
    """Read the first ``HEAD_BYTES`` of an encoded message of ``length`` bytes, or all of it if it is shorter.

    Raises:
        RemoteError: no message begins like this, or none of its type is that long.
    """
    fields = _fields(bytes(start[:HEAD_BYTES]))
    key, kind = next(fields, ("", None))
    if key != "type" or kind not in _TYPES or not isinstance(kind, str):
        raise RemoteError("not a message of the protocol")
    if length > SHORT_MESSAGE_BYTES and kind not in _LONG:
        raise RemoteError(f"a {kind} is never that long")
    values = dict(fields)
    if kind in _ENVELOPES:
        envelope = values.get("envelope")
        if not isinstance(envelope, bytes):
            raise RemoteError("not a message of the protocol")
        header = peek_header(envelope)
        return Head(kind, term=header.term, envelope=header)
    if kind == Signed.__name__:
        payload = values.get("payload")
        said = dict(_fields(payload)) if isinstance(payload, bytes) else {}
        statement = said.get("type")
        return Head(kind, statement if isinstance(statement, str) else "", _term(said))
    return Head(kind, term=_term(values))


def _term(values: dict[str, object]) -> Term | None:
    term = values.get("term")
    return term if isinstance(term, int) and not isinstance(term, bool) else None


# --- msgpack, as far as it goes ------------------------------------------------------------------------------------
# The library decodes whole messages only. What is read here is one map of plain values (msgpack specification,
# "Formats"); at the first value of another kind, or that is cut off, reading ends. Of bytes, the part that is there
# counts.

_SIZES = tuple(struct.Struct(form) for form in (">B", ">H", ">I"))
_NUMBERS = tuple(struct.Struct(f">{letter}") for letter in "fdBHIQbhiq")  # from 0xCA, float 32, to 0xD3, int 64
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


class _End(Exception):  # noqa: N818 - not an error: there is no more to read
    pass


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def fields_of_map(self) -> int:
        """Read the beginning of a map; return how many fields it has."""
        code = self._size(0)
        if 0x80 <= code <= 0x8F:
            return code - 0x80
        if code in {0xDE, 0xDF}:
            return self._size(code - 0xDD)
        raise _End

    def value(self) -> object:
        """Read one plain value."""
        code = self._size(0)
        if code <= 0x7F or code >= 0xE0:
            return code if code <= 0x7F else code - 0x100
        if 0xA0 <= code <= 0xBF or 0xD9 <= code <= 0xDB:
            return self._text(code - 0xA0 if code <= 0xBF else self._size(code - 0xD9))
        if 0xC4 <= code <= 0xC6:
            return self._take(self._size(code - 0xC4), may_be_cut=True)
        if 0xCA <= code <= 0xD3:
            form = _NUMBERS[code - 0xCA]
            return form.unpack(self._take(form.size))[0]
        if code in _CONSTANTS:
            return _CONSTANTS[code]
        raise _End

    def _size(self, form: int) -> int:
        size: int = _SIZES[form].unpack(self._take(_SIZES[form].size))[0]
        return size

    def _text(self, size: int) -> str:
        try:
            return self._take(size).decode()
        except UnicodeDecodeError:
            raise _End from None

    def _take(self, size: int, *, may_be_cut: bool = False) -> bytes:
        part = self._content[self._at : self._at + size]
        if len(part) < size and not may_be_cut:
            raise _End
        self._at += size
        return part


def _fields(content: bytes) -> Iterator[tuple[str, object]]:
    """Yield the fields of a map, in their order, as far as they can be read."""
    reader = _Reader(content)
    try:
        for _ in range(reader.fields_of_map()):
            key = reader.value()
            if not isinstance(key, str):
                return
            yield key, reader.value()
    except _End:
        return
