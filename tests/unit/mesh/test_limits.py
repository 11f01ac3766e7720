"""What callers can cost, over real TLS on loopback: each hostile one is slowed or cut off, and honest ones are not."""

import asyncio
import contextlib
import logging
import time

import aiohttp
import pytest

from appliance.mesh import connection, link, server
from appliance.mesh.head import Head
from appliance.mesh.rates import Limits
from appliance.words.errors import RemoteError
from appliance.words.messages import ResignWanted, Sealed, SnapshotReply, encode
from tests.unit.mesh.town import BOUND_S, LIMIT, Town, until
from tests.unit.mesh.wire import Wire, connect, dribble, port, request, said

# --- members ---------------------------------------------------------------------------------------------------------


async def test_a_member_with_too_many_connections_loses_its_oldest(
    town: Town, wires: list[Wire], caplog: pytest.LogCaptureFixture
) -> None:
    tls = town.identity("node1").client_context()
    async with town.mesh("node0"), town.mesh("node2") as other:
        other.send("node0", ResignWanted(0))
        await town.inboxes["node0"].holds(1)
        for _ in range(6):
            wires.append(await connect(port(town), tls))
            wires[-1].writer.write(request(encode(ResignWanted(1))))
            assert b" 204 " in await wires[-1].answer()
        for wire in wires[:2]:
            await wire.ended()
        assert all(wire.is_open for wire in wires[2:])
        other.send("node0", ResignWanted(2))
        await town.inboxes["node0"].holds(8)
        assert not other.unreachable
    assert said(caplog, "node1: has too many connections") == 1


async def test_a_head_that_dribbles_is_cut(town: Town, wires: list[Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that begins well."""
    monkeypatch.setattr(connection, "_KEEP_IDLE_S", 0.6)
    tls = town.identity("node1").client_context()
    async with town.mesh("node0"):
        wire = await connect(port(town), tls)
        wires.append(wire)
        wire.writer.write(request(encode(ResignWanted(1))))
        assert b" 204 " in await wire.answer()
        dribbles = asyncio.create_task(dribble(wire, b"POST /v1/messages HTTP/1.1\r\n" + b"A: b\r\n" * 1000))
        start = time.monotonic()
        await wire.ended()
        assert time.monotonic() - start < 5.0
        await dribbles


async def test_a_body_that_dribbles_is_cut(
    town: Town, wires: list[Wire], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link, "_ANSWER_S", 0.4)
    tls = town.identity("node1").client_context()
    async with town.mesh("node0"):
        wire = await connect(port(town), tls)
        wires.append(wire)
        wire.writer.write(request(b"", 100_000))
        dribbles = asyncio.create_task(dribble(wire, encode(SnapshotReply(1, bytes(90_000)))))
        assert b" 408 " in await wire.answer()
        await wire.ended()
        await dribbles
    assert said(caplog, "node1: sent a message too slowly") == 1


async def test_bodies_on_their_way_from_one_member_are_bounded_together(town: Town, wires: list[Wire]) -> None:
    """The older of two is given up: its sender has begun anew."""
    tls = town.identity("node1").client_context()
    message = encode(SnapshotReply(1, bytes(LIMIT // 2 + 1000)))
    async with town.mesh("node0"):
        for _ in range(2):
            wire = await connect(port(town), tls)
            wires.append(wire)
            wire.writer.write(request(message[:1000], len(message)))
            await wire.writer.drain()
        await wires[0].ended()
        wires[1].writer.write(message[1000:])
        assert b" 204 " in await wires[1].answer()
        assert len(town.inboxes["node0"].messages) == 1


async def test_requests_that_are_not_waited_for_are_bounded_in_memory(
    town: Town, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller may send requests before their answers come; while they wait for their turn, reading stops."""
    monkeypatch.setattr(server, "limits_of", lambda *_: Limits(0.01, 1.0, 1e9, 1e9))
    tls = town.identity("node1").client_context()
    message = request(encode(SnapshotReply(1, bytes(500_000))))
    async with town.mesh("node0"):
        wire = await connect(port(town), tls)
        wires.append(wire)
        wire.writer.transport.set_write_buffer_limits(0)
        sent = 0
        with contextlib.suppress(TimeoutError):
            for _ in range(400):
                wire.writer.write(message)
                async with asyncio.timeout(1.0):
                    await wire.writer.drain()
                sent += len(message)
        # 32 requests, what the system holds for both ends of the connection, and a few.
        assert sent < 50_000_000


async def test_who_sends_too_many_messages_waits_and_is_refused_in_the_end(
    town: Town, wires: list[Wire], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "limits_of", lambda *_: Limits(20.0, 20.0, 1e9, 1e9))
    monkeypatch.setattr("appliance.mesh.rates.PATIENCE_S", 0.5)
    monkeypatch.setattr("appliance.mesh.rates.REFUSED_S", 0.3)
    tls = town.identity("node1").client_context()
    async with town.mesh("node0") as node, town.mesh("node2") as other:
        wire = await connect(port(town), tls)
        wires.append(wire)
        answers: list[bytes] = []
        start = time.monotonic()
        while not answers or b" 204 " in answers[-1]:
            wire.writer.write(request(encode(ResignWanted(1))))
            answers.append(await wire.answer())
        spent = time.monotonic() - start
        assert b" 429 " in answers[-1]
        assert spent > 0.5
        assert 20 < len(answers) < 30 + 20 * spent
        assert node.held_back["node1"] > 0
        await wire.ended()
        other.send("node0", ResignWanted(2))
        await town.inboxes["node0"].holds(len(answers))
        assert node.held_back.get("node2", 0) == 0

        async def heard_again() -> bool:
            again = await connect(port(town), tls)
            wires.append(again)
            again.writer.write(request(encode(ResignWanted(3))))
            return b" 204 " in await again.answer()

        async with asyncio.timeout(BOUND_S):
            while not await heard_again():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.05)
    assert said(caplog, "node1: sends more than its share: it has to wait") == 1
    assert said(caplog, "node1: goes on sending more than its share") == 1


async def test_who_sends_too_many_bytes_waits_also_with_what_is_refused(
    town: Town, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "limits_of", lambda *_: Limits(1e6, 1e6, 4e6, 4e6))
    tls = town.identity("node1").client_context()
    rubbish = request(b"\x81\xa4type\xa7Rubbish" + bytes(1_000_000))
    async with town.mesh("node0"):
        wire = await connect(port(town), tls)
        wires.append(wire)
        start = time.monotonic()
        for _ in range(8):
            wire.writer.write(rubbish)
            assert b" 400 " in await wire.answer()
        assert time.monotonic() - start > 0.9


async def test_rubbish_below_http_is_told_of_once_and_without_a_traceback(
    town: Town, wires: list[Wire], caplog: pytest.LogCaptureFixture
) -> None:
    tls = town.identity("node1").client_context()
    rubbish = [
        bytes(range(256)) * 10,
        b"POST /v1/messages HTTP/1.1\r\nA: " + b"x" * 100_000,
        b"POST /v1/messages HTTP/1.1\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"POST /v1/messages HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n" + bytes(100),
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n" + bytes(100),
        request(b"", path="/elsewhere"),
    ]
    async with town.mesh("node0"):
        for content in rubbish * 2:
            wire = await connect(port(town), tls)
            wires.append(wire)
            wire.writer.write(content)
            assert (await wire.answer())[9:10] in {b"4", b""}
            await wire.ended()
    assert said(caplog, "node1: sent what is no HTTP request") == 1
    assert not any(record.exc_info or record.levelno >= logging.ERROR for record in caplog.records)
    assert town.inboxes["node0"].messages == []


async def test_a_fault_of_ours_is_told_with_its_traceback_once(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: object) -> str | None:
        raise ZeroDivisionError

    async with town.mesh("node0", wants=fails), town.mesh("node1") as sender:
        for term in range(3):
            sender.send("node0", ResignWanted(term))
        await sender._links["node0"].drained()
    assert sum(record.exc_info is not None for record in caplog.records) == 1


# --- messages of no use ----------------------------------------------------------------------------------------------


def _envelope(term: int) -> Sealed:
    return Sealed(memoryview(Town.envelope(bytes(1_000_000), term)))


async def test_what_is_of_no_use_is_let_go_by_its_first_bytes(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[tuple[str, Head]] = []

    def wants(peer: str, head: Head) -> str | None:
        asked.append((peer, head))
        if head.term == 3:
            raise RemoteError("this term is long over")
        return "sealed to another key" if head.term == 1 else None

    tls = town.identity("node1").client_context()
    async with town.mesh("node0", wants=wants), aiohttp.ClientSession() as session:
        for term, status in ((1, 204), (2, 204), (3, 400), (2, 204)):
            data = encode(_envelope(term))
            async with session.post(town.url("node0"), data=data, ssl=tls, server_hostname="node0") as answer:
                assert answer.status == status
        assert await town.inboxes["node0"].holds(2) == [("node1", _envelope(2))] * 2
    assert [(peer, head.type, head.term) for peer, head in asked] == [("node1", "Sealed", t) for t in (1, 2, 3, 2)]
    assert said(caplog, "node1: this term is long over") == 1
    assert said(caplog, "sealed to another key") == 0


# --- the other way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reads", [False, True])
async def test_a_peer_that_takes_or_answers_nothing_costs_its_own_link_only(
    town: Town, monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    """It never answers, and reads nothing, or a little now and then; it is cut off by the time limit."""
    monkeypatch.setattr(link, "_ANSWER_S", 0.3)
    monkeypatch.setattr(link, "SLOWEST_BYTES_PER_S", 2 * 1024 * 1024)
    begun, over = asyncio.Event(), asyncio.Event()
    served: set[asyncio.Task[None] | None] = set()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        begun.set()
        with contextlib.suppress(OSError, TimeoutError):
            while reads and not over.is_set():
                await reader.read(1)
                await asyncio.sleep(0.05)  # it is slow on purpose
        await over.wait()
        writer.transport.abort()
        served.discard(asyncio.current_task())

    peer = town.members["node1"]
    context = town.identity("node1").server_context()
    listener = await asyncio.start_server(slow, peer.host, peer.mesh_port, ssl=context, limit=1000)
    message = SnapshotReply(1, bytes(LIMIT - 100))
    async with listener, town.mesh("node0") as sender, town.mesh("node2"):
        sender.send("node1", message)
        async with asyncio.timeout(BOUND_S):
            await begun.wait()
        start = time.monotonic()
        for _ in range(8):
            sender.broadcast(message)
            await sender._links["node2"].drained()
        await town.inboxes["node2"].holds(8)
        assert not sender.unreachable or set(sender.unreachable) == {"node1"}
        assert sender.lost["node2"] == 0
        await until(lambda: sender.unreachable.get("node1") == "it did not answer in time")
        assert time.monotonic() - start < 10
        # One message is on its way, one waits, and the rest has given way.
        assert sender._links["node1"].dropped >= 1
        over.set()
        await until(lambda: not served)


async def test_a_peer_that_had_too_much_is_left_alone_for_a_while(
    town: Town, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Or each message would cost both sides a connection, to be refused again."""
    monkeypatch.setattr(server, "limits_of", lambda *_: Limits(5.0, 5.0, 1e9, 1e9))
    monkeypatch.setattr("appliance.mesh.rates.PATIENCE_S", 0.2)
    monkeypatch.setattr("appliance.mesh.rates.REFUSED_S", 1.0)
    monkeypatch.setattr(link, "REFUSED_S", 1.0)
    async with town.mesh("node0") as node, town.mesh("node1") as sender:
        for term in range(20):
            sender.send("node0", ResignWanted(term))
        # In the log: that the peer is unreachable may be over with the next message, a moment later.
        await until(lambda: "it had too many messages" in caplog.text)
        await until(lambda: not sender.unreachable)
        assert 1 <= sender.lost["node0"] <= 4, "each message was a connection"
        assert node.held_back["node1"] >= 1
