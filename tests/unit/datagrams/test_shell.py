"""UDP: what is refused is counted and told once a minute; what is unreachable ends nothing."""

import contextlib
import logging
import secrets
import socket
from collections.abc import AsyncIterator

import pytest

from appliance.datagrams.association import Association
from appliance.datagrams.pair import FORMER_KEPT_S
from appliance.datagrams.sealing import Refusal, parse
from appliance.datagrams.shell import LOG_EVERY, Datagrams, OnMessage
from appliance.words.clock import system_clock
from appliance.words.errors import OperatorError
from appliance.words.ids import Monotonic, NodeName
from appliance.words.settings import Cluster, Member
from tests.fixed_keys import SECRET
from tests.unit.datagrams.loopback import free_cluster, until

pytestmark = pytest.mark.timeout(30)


class Receiver:
    """node0's port, and what came."""

    def __init__(self, cluster: Cluster) -> None:
        self.came: list[tuple[NodeName, bytes]] = []
        self.now = 1000.0
        self.cluster = cluster
        self.datagrams = Datagrams(
            cluster=cluster,
            me="node0",
            random=secrets.token_bytes,
            on_message=lambda sender, content: self.came.append((sender, content)),
            clock=lambda: Monotonic(self.now),
        )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver(free_cluster(2))
    async with receiver.datagrams:
        receiver.datagrams.set_secret("node1", SECRET)
        receiver.now += FORMER_KEPT_S
        yield receiver


class Peer:
    """node1, or who says so: a socket on its port, and its side of the association."""

    def __init__(self, receiver: Receiver, name: NodeName = "node1", secret: bytes = SECRET) -> None:
        self._receiver = receiver
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", receiver.cluster.members["node1"].consensus_port))
        self._socket.setblocking(False)
        self._side = Association(cluster="test", me=name, peer="node0", secret=secret, random=secrets.token_bytes)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def throw(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._socket.sendto(datagram, ("127.0.0.1", self._receiver.cluster.members["node0"].consensus_port))

    def seal(self, content: bytes) -> bytes | None:
        """Take in what came; return a datagram if the two have met."""
        now = Monotonic(self._receiver.now)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._side.open(*parse(self._socket.recv(2000)), now)
        self._receiver.now += 0.1
        datagram = self._side.seal(content, now)
        self.throw(*self._side.outbox)
        self._side.outbox = []
        return datagram

    async def meet(self, content: bytes) -> bytes:
        """Return a datagram that the receiver will take."""
        found: list[bytes] = []

        def sealed() -> bool:
            datagram = self.seal(content)
            found.extend([] if datagram is None else [datagram])
            return bool(found)

        await until(sealed)
        return found[0]


def throw(cluster: Cluster, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, ("127.0.0.1", cluster.members["node0"].consensus_port))


def hello(receiver: Receiver, name: NodeName = "node1", secret: bytes = SECRET) -> bytes:
    """Return what a node says first."""
    side = Association(cluster="test", me=name, peer="node0", secret=secret, random=secrets.token_bytes)
    side.seal(b"", Monotonic(receiver.now))
    return side.outbox[0]


async def test_what_is_refused_is_counted_by_reason(receiver: Receiver) -> None:
    wrong, stranger = hello(receiver, secret=bytes(32)), hello(receiver, "stranger")
    with Peer(receiver) as peer:
        good = await peer.meet(b"good")
        peer.throw(b"", b"garbage", bytes(60_000), wrong, stranger, good, good)
        await until(lambda: receiver.datagrams.refused.total() == 6)
    assert receiver.came == [("node1", b"good")]
    assert receiver.datagrams.refused == {
        (None, Refusal.GARBAGE): 3,
        (None, Refusal.UNKNOWN_SENDER): 1,
        ("node1", Refusal.WRONG_KEY): 1,
        ("node1", Refusal.REPLAY): 1,
    }


async def test_a_recording_is_worth_nothing_after_a_restart(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Peer(receiver) as peer:
        recorded = await peer.meet(b"recorded")
        await receiver.datagrams.__aexit__(None, None, None)
        again = Receiver(receiver.cluster)
        async with again.datagrams:
            again.datagrams.set_secret("node1", SECRET)  # never so in a real node: each start agrees on another one
            peer.throw(recorded)
            await until(lambda: again.datagrams.refused.total() == 1)
            assert again.came == []
            assert again.datagrams.refused == {("node1", Refusal.STALE): 1}

            def arrived() -> bool:
                datagram = peer.seal(b"fresh")
                peer.throw(*([] if datagram is None else [datagram]))
                return ("node1", b"fresh") in again.came

            await until(arrived)
    assert not caplog.messages, "a restart is no news"


async def test_a_reason_is_told_once_a_minute(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for expected in (1, 1, 2):
        count = receiver.datagrams.refused.total()
        throw(receiver.cluster, hello(receiver, secret=bytes(32)))
        await until(lambda count=count: receiver.datagrams.refused.total() > count)  # type: ignore[misc]
        assert len(caplog.messages) == expected
        receiver.now += LOG_EVERY / 2
    assert caplog.messages[0] == (
        "consensus datagrams from node1 (127.0.0.1) can't be opened with the key that was agreed with it"
    )


async def test_a_closed_port_ends_nothing(receiver: Receiver) -> None:
    for _ in range(50):
        receiver.datagrams.send("node1", b"nobody hears")
    with Peer(receiver) as peer:
        peer.throw(await peer.meet(b"alive"))
        await until(lambda: receiver.came == [("node1", b"alive")])


async def test_a_port_in_use_names_the_key(receiver: Receiver) -> None:
    with pytest.raises(OperatorError, match=r"set cluster\.members\.node0\.consensus_port"):
        await Receiver(receiver.cluster).datagrams.__aenter__()


async def test_a_host_that_is_not_found_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("appliance.datagrams.shell.RESOLVE_EVERY", 0.01)
    port = free_cluster(1).members["node0"].consensus_port
    own = Member(host="127.0.0.1", consensus_port=port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer, contextlib.ExitStack() as stack:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        away = Member(host="peer.invalid", consensus_port=peer.getsockname()[1])
        receiver = Receiver(Cluster(name="test", members={"node0": own, "node1": away}))
        real = socket.getaddrinfo

        def found_now(host: str, *rest: object, **named: object) -> object:
            return real("127.0.0.1" if host == "peer.invalid" else host, *rest, **named)  # type: ignore[arg-type]

        async with receiver.datagrams:
            receiver.datagrams.set_secret("node1", SECRET)
            receiver.datagrams.send("node1", b"lost")
            assert "peer.invalid of node1 can't be found" in caplog.text
            stack.callback(monkeypatch.undo)
            monkeypatch.setattr(socket, "getaddrinfo", found_now)

            def arrived() -> bool:
                receiver.now += 0.1
                receiver.datagrams.send("node1", b"found")
                with contextlib.suppress(BlockingIOError):
                    return bool(peer.recv(2000))
                return False

            await until(arrived)


async def test_a_peer_that_moved_is_reached_at_its_new_address() -> None:
    """Removed and added elsewhere, and this node learns of both at once."""
    cluster = free_cluster(3)
    before = {name: cluster.members[name] for name in ("node0", "node1")}
    moved = {"node0": before["node0"], "node1": cluster.members["node2"]}
    came: list[bytes] = []

    def datagrams(me: NodeName, members: dict[NodeName, Member], on_message: OnMessage) -> Datagrams:
        return Datagrams(
            cluster=Cluster(name="test", members=members),
            me=me,
            random=secrets.token_bytes,
            on_message=on_message,
            clock=system_clock,
        )

    async with (
        datagrams("node0", before, lambda *_: None) as node0,
        datagrams("node1", moved, lambda _, content: came.append(content)) as node1,
    ):
        node0.set_members(moved)
        node0.set_secret("node1", SECRET)
        node1.set_secret("node0", SECRET)

        def arrived() -> bool:
            node0.send("node1", b"found")
            return b"found" in came

        await until(arrived)
