"""Who has proven nothing yet, over real TLS on loopback: few, for a short time, and the oldest give way."""

import asyncio
import contextlib
import resource
import socket
import time

import pytest

from appliance.mesh import door, server
from appliance.pki.authority import Authority
from appliance.words.clock import system_clock
from appliance.words.messages import ResignWanted, encode
from tests.unit.mesh.town import LIMIT, Town, until
from tests.unit.mesh.wire import Wire, connect, dribble, port, request, said


async def test_half_open_connections_are_few_and_the_oldest_give_way(
    town: Town, wires: list[Wire], caplog: pytest.LogCaptureFixture
) -> None:
    async with town.mesh("node0"), town.mesh("node1") as honest:
        for number in range(300):
            # From many addresses: over all of them the bound is 64 and 4 for each member.
            wires.append(await connect(port(town), source=f"127.0.1.{1 + number % 20}"))
        await until(lambda: sum(wire.is_open for wire in wires) <= 76)
        assert all(wire.is_open for wire in wires[-20:])
        # A newcomer that proves who it is gets in all the same.
        honest.send("node0", ResignWanted(1))
        await town.inboxes["node0"].holds(1)
    assert said(caplog, "strangers (the latest: 127.0.1.") == 1


async def test_one_address_has_fewer_still(town: Town, wires: list[Wire]) -> None:
    async with town.mesh("node0"):
        for _ in range(40):
            wires.append(await connect(port(town)))
        await until(lambda: sum(wire.is_open for wire in wires) <= 22)
        assert wires[-1].is_open


async def test_a_handshake_comes_to_an_end_or_is_cut(
    town: Town, wires: list[Wire], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Silence, and a byte now and then."""
    monkeypatch.setattr(door, "PROVE_WITHIN_S", 0.4)
    async with town.mesh("node0"):
        start = time.monotonic()
        wires += [await connect(port(town)) for _ in range(5)]
        dribbles = asyncio.create_task(dribble(wires[0], b"\x16\x03\x01\x02\x00\x01" + bytes(500)))
        for wire in wires:
            await wire.ended()
        assert time.monotonic() - start < 5.0
        await dribbles
    assert said(caplog, "no member's certificate within 0.4 s") == 1


async def test_a_stranger_with_a_certificate_of_the_authority_stays_unproven(
    town: Town, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told that it is no member; one that does not ask is cut when the time to prove itself is over."""
    monkeypatch.setattr(door, "PROVE_WITHIN_S", 0.5)
    guest = town.identity("guest").client_context()
    async with town.mesh("node0"):
        asks = await connect(port(town), guest)
        waits = await connect(port(town), guest)
        wires += [asks, waits]
        asks.writer.write(request(encode(ResignWanted(1))))
        assert b" 403 " in await asks.answer()
        for wire in wires:
            await wire.ended()
    assert town.inboxes["node0"].messages == []


async def test_an_address_that_calls_too_often_is_shut_out_for_a_while(
    town: Town, wires: list[Wire], caplog: pytest.LogCaptureFixture
) -> None:
    async with town.mesh("node0"), town.mesh("node1") as honest:
        for _ in range(100):
            wire = await connect(port(town))
            wires.append(wire)
            wire.close()
        await until(lambda: said(caplog, "connect too often from one address") == 1)
        honest.send("node0", ResignWanted(1))  # from another address
        await town.inboxes["node0"].holds(1)


async def test_no_descriptors_left_is_said_and_waited_for(
    town: Town, wires: list[Wire], caplog: pytest.LogCaptureFixture
) -> None:
    tls = town.identity("node1").client_context()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with town.mesh("node0"):
        caller = socket.socket()
        caller.setblocking(False)
        taken = [socket.socket() for _ in range(3)]
        try:
            with contextlib.suppress(OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0].fileno(), hard))
            await asyncio.get_running_loop().sock_connect(caller, ("127.0.0.1", port(town)))
            await until(lambda: said(caplog, "can't accept connections now: Too many open files") == 1)
            spent, start = time.process_time(), time.monotonic()
            await until(lambda: time.monotonic() - start > 0.4)
            assert time.process_time() - spent < 0.3, "it spins"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for holder in taken:
                holder.close()
        reader, writer = await asyncio.open_connection(sock=caller, ssl=tls, server_hostname="node0")
        wires.append(Wire(reader, writer))
        writer.write(request(encode(ResignWanted(1))))
        assert b" 204 " in await wires[0].answer()
    assert said(caplog, "can't accept connections") == 1


async def test_new_connections_use_the_newest_tls_settings(town: Town) -> None:
    foreign = town.identity("node0", Authority.create("test")).server_context()
    node = server.Server(town.members, LIMIT, town.inboxes["node0"], system_clock)
    await node.start("node0", "127.0.0.1", port(town), town.identity("node0").server_context())
    try:
        async with town.mesh("node1") as old, town.mesh("node2") as new:
            old.send("node0", ResignWanted(1))
            await town.inboxes["node0"].holds(1)
            node.set_tls(foreign)
            new.send("node0", ResignWanted(2))
            await until(lambda: new.lost["node0"] == 1)
            old.send("node0", ResignWanted(3))  # on its old connection
            assert (await town.inboxes["node0"].holds(2))[1] == ("node1", ResignWanted(3))
    finally:
        await node.stop()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_a_source_is_what_one_caller_cannot_choose(one: str, other: str, same: bool) -> None:
    assert (door._source_of(one) == door._source_of(other)) is same


async def test_a_host_name_is_listened_to_on_all_its_addresses(town: Town) -> None:
    node = server.Server(town.members, LIMIT, town.inboxes["node0"], system_clock)
    await node.start("node0", "localhost", port(town), town.identity("node0").server_context())
    try:
        async with town.mesh("node1") as sender:
            sender.send("node0", ResignWanted(1))
            await town.inboxes["node0"].holds(1)
    finally:
        await node.stop()
