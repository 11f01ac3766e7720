"""Two nodes that talk by datagrams: what one takes from the other is fresh, and comes once. Pure.

Each start of a node is a *session*, a random number. A receiver gives each session of its peer a *token*, and takes
only what is bound to it. Nobody can know a token before it is given, and none is given again: tokens come from a random
key of the receiver that lives as long as the session of the peer that it accepted. So whatever somebody recorded
before either side's last start is bound to a token that is nobody's any more; what was recorded since falls under the
replay window (RFC 4303, 3.4.3). No file, clock or counter has to survive for this, and an emptied state folder, or one
that was restored from a copy, does no harm.

How two nodes meet, when ``a`` has just started (its session is ``s``):

    a -> b   HELLO        session s: who are you?
    b -> a   HELLO        session t; echo s; "bind to token u"        (u = keyed hash of s)
    a -> b   BOUND_HELLO  token u; "bind to token v, and tell me in a bound one"
    b -> a   BOUND_HELLO  token v; "bind to token u"

The third proves to ``b`` that ``a``'s session is alive now, the fourth proves ``b``'s to ``a``. Only what is so proven
changes anything; all else leads to one answer at most, and to few of them in a second.
"""

import hmac
from dataclasses import dataclass

from msgspec import Struct

from appliance.datagrams.sealing import (
    LAST_COUNTER,
    NO_TOKEN,
    SESSION_SIZE,
    TOKEN_SIZE,
    Cipher,
    Header,
    Kind,
    Refusal,
    RefusedError,
    tag_of,
)
from appliance.words.ids import Monotonic, NodeName
from appliance.words.random import RandomBytes

WINDOW = 256
"""How far behind the newest a datagram may arrive."""

HELLO_EVERY = 0.05
"""Seconds between two hellos of one kind to one session of a peer: a flood of old ones is not answered by another."""

_SESSIONS_ANSWERED = 64
"""Sessions of a peer that are answered within ``HELLO_EVERY``: each in its own right, so that what somebody recorded of
earlier ones does not use up the answers to the one that is alive."""

_CHALLENGE_SIZE = 32
_HELLO_SIZE = SESSION_SIZE + TOKEN_SIZE + 1


@dataclass(slots=True)
class ReplayWindow:
    """Which datagrams of one session were taken: the newest, and a bit for each of those up to it."""

    newest: int = 0
    taken: int = 0

    def accept(self, counter: int) -> bool:
        """Say whether an authentic datagram is new, and remember it."""
        if counter > self.newest:
            self.taken = (self.taken << min(counter - self.newest, WINDOW) | 1) & (2**WINDOW - 1)
            self.newest = counter
            return True
        age = self.newest - counter
        if age >= WINDOW or self.taken >> age & 1:
            return False
        self.taken |= 1 << age
        return True


@dataclass(slots=True)
class _Proven:
    """The peer's session that is alive: it has bound something to the token that it was given."""

    session: bytes
    token: bytes
    window: ReplayWindow


class _Hello(Struct, frozen=True):
    """The content of both kinds of hello.

    Attributes:
        echo: the receiver's session; zeros if the sender does not know it.
        token: what the receiver is to bind to; zeros if ``echo`` is.
        asks: the sender lacks a token that it can trust.
    """

    echo: bytes
    token: bytes
    asks: bool

    def encode(self) -> bytes:
        return self.echo + self.token + bytes([self.asks])

    @classmethod
    def decode(cls, content: bytes, sender: NodeName) -> "_Hello":
        if len(content) != _HELLO_SIZE or content[-1] > 1:
            raise RefusedError(Refusal.UNSOUND, sender)
        return cls(content[:SESSION_SIZE], content[SESSION_SIZE:-1], bool(content[-1]))


class Association:
    """This node's side of a pair.

    Attributes:
        outbox: datagrams that are to be sent to the peer; whoever sends them empties it.
    """

    def __init__(self, *, cluster: str, me: NodeName, peer: NodeName, secret: bytes, random: RandomBytes) -> None:
        self.outbox: list[bytes] = []
        self._peer = peer
        self._tag = tag_of(me)
        self._to = Cipher(cluster=cluster, sender=me, receiver=peer, secret=secret)
        self._from = Cipher(cluster=cluster, sender=peer, receiver=me, secret=secret)
        self._random = random
        self._challenge = random(_CHALLENGE_SIZE)
        self._proven: _Proven | None = None
        self._hello_due: dict[tuple[Kind, bool, bytes], Monotonic] = {}
        self._begin()

    def _begin(self) -> None:
        self._session = self._random(SESSION_SIZE)
        self._counter = 0
        self._token: bytes | None = None

    @property
    def has_met(self) -> bool:
        """Tell whether the two have met, so that what is sealed goes out."""
        return self._token is not None

    def seal(self, content: bytes, now: Monotonic) -> bytes | None:
        """Return a datagram for the peer; None, and a hello is in the outbox, while they have not met."""
        if self._counter == LAST_COUNTER:
            self._begin()  # as if this node had started again
        if self._token is None:
            self.greet(now)
            return None
        return self._seal(Kind.DATA, self._token, content)

    def open(self, header: Header, ciphertext: bytes, now: Monotonic) -> bytes | None:
        """Return the content of a datagram of the peer; None if it was for this association itself.

        Raises RefusedError on what is not authentic, not fresh, or came before. Such changes nothing.
        """
        if header.kind is Kind.HELLO:
            self._on_hello(header, _Hello.decode(self._from.open(header, ciphertext), self._peer), now)
            return None
        content = self._from.open(header, ciphertext)
        if not hmac.compare_digest(header.token, self._token_for(header.session)):
            self.greet(now, answer_to=header.session)
            raise RefusedError(Refusal.STALE, self._peer)
        hello = _Hello.decode(content, self._peer) if header.kind is Kind.BOUND_HELLO else None
        self._prove(header)
        if hello is None:
            return content
        if hello.echo == self._session:
            self._token = hello.token
        if hello.asks:
            self._greet_bound(self._token, header.session, now)
        return None

    def _prove(self, header: Header) -> None:
        """Take an authentic datagram that is bound to the token of its session for fresh, once."""
        if self._proven is None or self._proven.session != header.session:
            self._proven = _Proven(header.session, header.token, ReplayWindow())
            self._challenge = self._random(_CHALLENGE_SIZE)
            self._token = None  # it was for the peer's former session
        if not self._proven.window.accept(header.counter):
            raise RefusedError(Refusal.REPLAY, self._peer)

    def _on_hello(self, header: Header, hello: _Hello, now: Monotonic) -> None:
        if hello.echo == self._session:
            self._greet_bound(hello.token, header.session, now)
        else:
            self.greet(now, answer_to=header.session)

    def _token_for(self, session: bytes) -> bytes:
        """Return what the peer must bind to in a session of its."""
        if self._proven is not None and self._proven.session == session:
            return self._proven.token
        return hmac.digest(self._challenge, session, "sha256")[:TOKEN_SIZE]

    def greet(self, now: Monotonic, answer_to: bytes | None = None) -> None:
        """Say who is there; to a session that is known, with the token that it is to bind to."""
        hello = _Hello(bytes(SESSION_SIZE), NO_TOKEN, True)
        if answer_to is not None:
            hello = _Hello(answer_to, self._token_for(answer_to), True)
        if self._may_greet((Kind.HELLO, hello.asks, hello.echo), now):
            self.outbox.append(self._seal(Kind.HELLO, NO_TOKEN, hello.encode()))

    def _greet_bound(self, token: bytes | None, session: bytes, now: Monotonic) -> None:
        """Prove this node's session to the peer's, and give it its token."""
        known = self._token is not None and self._proven is not None and self._proven.session == session
        hello = _Hello(session, self._token_for(session), not known)
        if token is not None and token != NO_TOKEN and self._may_greet((Kind.BOUND_HELLO, hello.asks, session), now):
            self.outbox.append(self._seal(Kind.BOUND_HELLO, token, hello.encode()))

    def _may_greet(self, which: tuple[Kind, bool, bytes], now: Monotonic) -> bool:
        if now < self._hello_due.get(which, now):
            return False
        if len(self._hello_due) >= 2 * _SESSIONS_ANSWERED:
            self._hello_due = {known: due for known, due in self._hello_due.items() if now < due}
        if len(self._hello_due) >= 2 * _SESSIONS_ANSWERED:
            return False
        self._hello_due[which] = Monotonic(now + HELLO_EVERY)
        return True

    def _seal(self, kind: Kind, token: bytes, content: bytes) -> bytes:
        self._counter += 1
        return self._to.seal(Header(kind, self._tag, self._session, token, self._counter), content)
