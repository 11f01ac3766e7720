"""What comes from the network: an outsider without the secret, a datagram sent again, and one sent to somebody else."""

import asyncio
import secrets
from typing import Any

from appliance.consensus.messages import Ping, encode
from appliance.datagrams.association import Association
from appliance.datagrams.raftos_shim import JsonSerializer
from appliance.datagrams.sealing import RefusedError, parse
from appliance.words.ids import Monotonic

SECRET, ANOTHER = bytes(range(32)), bytes(32)
NOW = Monotonic(0.0)
ADDRESS = ("127.0.0.1", 9)
MESSAGE = {"type": "request_vote", "term": 1, "candidate_id": "a", "last_log_index": 0, "last_log_term": 0}


def theirs(raftos: Any) -> str:
    """Upstream's protocol object with its own cryptor; its handler only counts."""

    def member(**settings: object) -> tuple[Any, list[object]]:
        config = raftos.conf.Configuration()
        config.configure({"cryptor": raftos.cryptors.Cryptor, **settings})
        handled: list[object] = []
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[object]()
        return raftos.network.UDPProtocol(queue, handled.append, loop, JsonSerializer, config.cryptor), handled

    def outcome(receiver: tuple[Any, list[object]], datagram: bytes) -> str:
        protocol, handled = receiver
        before = len(handled)
        try:
            protocol.datagram_received(datagram, ADDRESS)
        except Exception as error:  # whatever it raises is the result
            return f"{type(error).__name__} raised into the event loop"
        return "handled" if len(handled) > before else "dropped"

    def seal(sender: tuple[Any, list[object]]) -> bytes:
        return bytes(sender[0].cryptor.encrypt(JsonSerializer.pack(MESSAGE)))

    a, b, c = (member(secret_key=SECRET) for _ in range(3))
    datagram = seal(a)
    first = outcome(b, datagram)
    return (
        _cell(
            outsider=outcome(b, seal(member(secret_key=ANOTHER))),
            first=first,
            again=outcome(b, datagram),
            elsewhere=outcome(c, datagram),
        )
        + f"; secret not configured, outsider with the package's own: {outcome(member(), seal(member()))}"
    )


def ours() -> str:
    """Our associations, which the UDP shell only carries."""
    members = {name: _Member(name) for name in "abc"}

    def outcome(receiver: str, datagram: bytes) -> str:
        return members[receiver].take(datagram)

    stranger = _Member("a", ANOTHER)
    members["a"].meet(members["b"])
    datagram = members["a"].seal("b", encode(Ping()))
    assert datagram is not None
    first = outcome("b", datagram)
    outsider = stranger.seal("b", encode(Ping())) or stranger.sides["b"].outbox[0]
    return _cell(
        outsider=outcome("b", outsider), first=first, again=outcome("b", datagram), elsewhere=outcome("c", datagram)
    )


class _Member:
    """A member's side towards each of the others, without sockets."""

    def __init__(self, name: str, secret: bytes = SECRET) -> None:
        self.name = name
        self.sides = {
            peer: Association(cluster="x", me=name, peer=peer, secret=secret, random=secrets.token_bytes)
            for peer in "abc"
            if peer != name
        }

    def meet(self, peer: "_Member") -> None:
        """Exchange hellos until both sides know each other's session."""
        self.seal(peer.name, b"")
        for _ in range(4):
            for sender, receiver in ((self, peer), (peer, self)):
                outbox, sender.sides[receiver.name].outbox = sender.sides[receiver.name].outbox, []
                for datagram in outbox:
                    receiver.take(datagram, sender.name)

    def seal(self, peer: str, content: bytes) -> bytes | None:
        return self.sides[peer].seal(content, NOW)

    def take(self, datagram: bytes, sender: str = "a") -> str:
        try:
            content = self.sides[sender].open(*parse(datagram), NOW)
        except RefusedError as refused:
            return f"refused as {refused.refusal.name}"
        return "taken as a greeting" if content is None else "handled"


def _cell(*, outsider: str, first: str, again: str, elsewhere: str) -> str:
    return (
        f"outsider: {outsider}; a member's: {first}; the same again: {again}; the same to a third member: {elsewhere}"
    )
