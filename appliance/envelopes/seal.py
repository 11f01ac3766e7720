"""Seal and open envelopes that lie in memory: a fresh content key, AES-256-GCM in chunks around the payload.

The content key (for a candidate: the round key) never seals anything itself. HKDF makes from it, the envelope's salt
and a label the key and the nonce prefix of this one stream, so that two envelopes never share a nonce even if they
share a round key. The whole header is authenticated with every chunk: an envelope for one term, round or key can't be
passed off as one for another. ``streaming`` does the same for what is too large for memory.
"""

import os
from collections.abc import Sequence

from appliance.envelopes import stream
from appliance.envelopes.format import SALT_BYTES, Header, Kind, format_header, parse_header
from appliance.envelopes.keys import ROUND_KEY_BYTES, PrivateKey, RecipientKey, round_key_id
from appliance.envelopes.streaming import seal_pieces
from appliance.envelopes.wrapping import unwrap, wrap
from appliance.words.errors import RemoteError
from appliance.words.ids import Round, Term
from appliance.words.parts import Content, blank

read_header = parse_header
"""Read an envelope's header, which costs microseconds; nothing in it is authentic before the envelope is opened."""


def seal(payload: Content, recipient: RecipientKey, *, kind: Kind, term: Term, round: Round) -> bytes:  # noqa: A002 - the word of design.md
    """Return an envelope that only the holder of the recipient's private key can open.

    Args:
        kind: TO_LEADER or TO_PARTICIPANT.
    """
    content_key, header = new_header(recipient, kind=kind, term=term, round_=round)
    return seal_content(payload, content_key, header)


def seal_parts(
    parts: Sequence[Content],
    recipient: RecipientKey,
    *,
    kind: Kind,
    term: Term,
    round: Round,  # noqa: A002 - the word of design.md
) -> bytes:
    """Return what ``seal`` makes of the joined parts, without joining them.

    A chunk at a time, so that other threads go on meanwhile, and with no memory but the envelope's own.
    """
    content_key, header = new_header(recipient, kind=kind, term=term, round_=round)
    buffer = blank(header.size + stream.sealed_length(sum(map(len, parts))))
    for piece in seal_pieces(parts, content_key, header):
        buffer.write(piece)
    return buffer.getvalue()


def new_header(recipient: RecipientKey, *, kind: Kind, term: Term, round_: Round) -> tuple[bytes, Header]:
    """Return a fresh content key, and the header that carries it to the recipient."""
    content_key, wrapped = wrap(recipient)
    salt = os.urandom(SALT_BYTES)
    return content_key, Header(kind=kind, term=term, round=round_, key_id=recipient.id, salt=salt, wrapped=wrapped)


def open_envelope(envelope: Content, private_key: PrivateKey) -> bytes:
    """Return the payload of an envelope that is sealed to this key.

    Raises:
        RemoteError: it is for another key, or not one byte of it may be trusted.
    """
    header = parse_header(envelope)
    return open_content(envelope, content_key_of(header, private_key), header)


def content_key_of(header: Header, private_key: PrivateKey) -> bytes:
    """Return the content key that a header carries. Raises RemoteError if it is not for this key."""
    if header.kind is Kind.CANDIDATE or header.key_id != private_key.recipient.id:
        raise RemoteError("envelope: is sealed to another key")
    return unwrap(header.wrapped, private_key)


def seal_under_key(payload: Content, key: bytes, *, term: Term, round: Round) -> bytes:  # noqa: A002
    """Return a candidate's envelope: everyone with the round key (32 bytes) can open it."""
    if len(key) != ROUND_KEY_BYTES:
        raise ValueError(f"a round key has {ROUND_KEY_BYTES} bytes")
    salt = os.urandom(SALT_BYTES)
    header = Header(kind=Kind.CANDIDATE, term=term, round=round, key_id=round_key_id(key), salt=salt, wrapped=b"")
    return seal_content(payload, key, header)


def open_under_key(envelope: Content, key: bytes) -> bytes:
    """Return the payload of a candidate's envelope.

    Raises:
        RemoteError: it is sealed under another key, or not one byte of it may be trusted.
    """
    header = parse_header(envelope)
    return open_content(envelope, round_key_of(header, key), header)


def round_key_of(header: Header, key: bytes) -> bytes:
    """Return the round key if a header says that it opens the envelope. Raises RemoteError if not."""
    if header.kind is not Kind.CANDIDATE or header.key_id != round_key_id(key):
        raise RemoteError("envelope: is sealed under another key")
    return key


def seal_content(payload: Content, content_key: bytes, header: Header) -> bytes:
    """Return the envelope that these parts make; nothing random is in it, so that test vectors can fix its bytes.

    Args:
        content_key: 32 bytes, wrapped in the header or known to the recipient.
        header: its salt must be fresh.
    """
    head = format_header(header)
    key, prefix = stream.stream_keys(content_key, header)
    buffer = blank(len(head) + stream.sealed_length(len(payload)))
    with buffer.getbuffer() as view:
        view[: len(head)] = head
        stream.seal_into(key, prefix, memoryview(payload), head, view[len(head) :])
    return buffer.getvalue()


def open_content(envelope: Content, content_key: bytes, header: Header) -> bytes:
    """Return the payload of an envelope whose parsed header and content key are these. Raises RemoteError."""
    key, prefix = stream.stream_keys(content_key, header)
    whole = memoryview(envelope)
    sealed = whole[header.size :]
    buffer = blank(stream.payload_length(len(sealed)))
    with buffer.getbuffer() as view:
        stream.open_into(key, prefix, sealed, bytes(whole[: header.size]), view)
    return buffer.getvalue()
