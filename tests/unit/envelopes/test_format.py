"""The header alone: parse(format(x)) is x, and only legal headers exist."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.envelopes.format import Header, Kind, format_header, parse_header, peek_header
from appliance.words.errors import RemoteError

NUMBERS = st.integers(0, 2**62 - 1)


@st.composite
def _headers(draw: st.DrawFn) -> Header:
    kind = draw(st.sampled_from(Kind))
    length = 0 if kind is Kind.CANDIDATE else draw(st.sampled_from([256, 384, 512]))
    return Header(
        kind=kind,
        term=draw(NUMBERS),
        round=draw(NUMBERS),
        key_id=draw(st.binary(min_size=32, max_size=32)),
        salt=draw(st.binary(min_size=16, max_size=16)),
        wrapped=draw(st.binary(min_size=length, max_size=length)),
    )


@given(header=_headers(), tail=st.binary(max_size=20))
def test_a_formatted_header_parses_with_and_without_a_tail(header: Header, tail: bytes) -> None:
    formatted = format_header(header)
    assert len(formatted) == header.size
    assert parse_header(formatted) == header
    assert parse_header(formatted + tail) == header


@given(header=_headers(), data=st.data())
def test_the_first_72_bytes_tell_whose_it_is(header: Header, data: st.DataObject) -> None:
    formatted = format_header(header)
    start = peek_header(formatted[: data.draw(st.integers(72, len(formatted)))])
    assert (start.kind, start.term, start.round) == (header.kind, header.term, header.round)
    assert (start.key_id, start.salt, start.wrapped_length) == (header.key_id, header.salt, len(header.wrapped))
    with pytest.raises(RemoteError, match="cut short"):
        peek_header(formatted[: data.draw(st.integers(0, 71))])


@given(header=_headers(), data=st.data())
def test_a_cut_header_is_refused(header: Header, data: st.DataObject) -> None:
    formatted = format_header(header)
    with pytest.raises(RemoteError, match="cut short"):
        parse_header(formatted[: data.draw(st.integers(0, len(formatted) - 1))])


@given(content=st.binary(max_size=700))
def test_rubbish_raises_nothing_else(content: bytes) -> None:
    for candidate in (content, b"p2pE\x01" + content):
        with contextlib.suppress(RemoteError):
            peek_header(candidate)
        try:
            parsed = parse_header(candidate)
        except RemoteError:
            continue
        assert format_header(parsed) == candidate[: parsed.size]


@pytest.mark.parametrize(
    ("kind", "term", "key_id", "wrapped"),
    [
        (Kind.CANDIDATE, 0, bytes(32), bytes(256)),
        (Kind.TO_LEADER, 0, bytes(32), b""),
        (Kind.TO_LEADER, 2**62, bytes(32), bytes(256)),
        (Kind.TO_LEADER, -1, bytes(32), bytes(256)),
        (Kind.TO_LEADER, 0, bytes(31), bytes(256)),
    ],
)
def test_our_own_illegal_header_is_a_bug(kind: Kind, term: int, key_id: bytes, wrapped: bytes) -> None:
    with pytest.raises(ValueError, match=r"not allowed|out of range|wrong length"):
        format_header(Header(kind=kind, term=term, round=0, key_id=key_id, salt=bytes(16), wrapped=wrapped))
