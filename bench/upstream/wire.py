"""What comes from the network: an outsider without the secret, a datagram sent again, and one sent to somebody else."""

import asyncio
from typing import Any

from appliance.consensus.messages import Ping, encode
from appliance.datagrams.raftos_shim import JsonSerializer
from appliance.datagrams.sealing import Sealer
from appliance.datagrams.shell import Datagrams
from appliance.words.clock import system_clock
from appliance.words.settings import Cluster, Member

SECRET, ANOTHER = bytes(range(32)), bytes(32)
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
    cluster = Cluster(name="x", members={name: Member(host="127.0.0.1") for name in "abc"})
    handled: list[object] = []

    def member(name: str) -> Datagrams:
        return Datagrams(
            cluster=cluster,
            me=name,
            secret=SECRET,
            boot=1,
            on_message=lambda *message: handled.append(message),
            clock=system_clock,
        )

    def outcome(receiver: Datagrams, datagram: bytes) -> str:
        handled.clear()
        before = dict(receiver.refused)
        receiver.datagram_received(datagram, ADDRESS)
        refused = [
            refusal.name for key, count in receiver.refused.items() if count > before.get(key, 0) for refusal in key[1:]
        ]
        return "handled" if handled else f"refused as {', '.join(refused)}"

    def seal(secret: bytes) -> bytes:
        return Sealer(cluster="x", me="a", peers=["b", "c"], secret=secret, boot=1).seal("b", encode(Ping()))

    b, c = member("b"), member("c")
    datagram = seal(SECRET)
    first = outcome(b, datagram)
    return _cell(
        outsider=outcome(b, seal(ANOTHER)), first=first, again=outcome(b, datagram), elsewhere=outcome(c, datagram)
    )


def _cell(*, outsider: str, first: str, again: str, elsewhere: str) -> str:
    return (
        f"outsider: {outsider}; a member's: {first}; the same again: {again}; the same to a third member: {elsewhere}"
    )
