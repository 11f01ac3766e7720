"""The mesh over real TLS on loopback: what arrives, what is refused, and what is logged how often."""

import asyncio
import io
import logging
import socket
import ssl
from collections.abc import Iterator

import aiohttp
import pytest

from appliance.mesh.mesh import Mesh
from appliance.pki.authority import Authority
from appliance.words.errors import OperatorError
from appliance.words.messages import ResignWanted, SnapshotReply, encode
from appliance.words.settings import Member
from tests.unit.mesh.town import LIMIT, Inbox, Town, free_port, until


@pytest.fixture(autouse=True)
def _info_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO, logger="appliance.mesh"):
        yield


async def test_messages_arrive_in_order_with_the_senders_name(town: Town) -> None:
    async with town.mesh("node0") as sender, town.mesh("node1"):
        for term in range(50):
            sender.send("node1", ResignWanted(term))
        assert await town.inboxes["node1"].holds(50) == [("node0", ResignWanted(term)) for term in range(50)]


async def test_a_broadcast_reaches_all_peers_or_those_it_is_for(town: Town) -> None:
    message = SnapshotReply(1, bytes(1_600_000))
    async with town.mesh("node0") as sender, town.mesh("node1"), town.mesh("node2"):
        sender.broadcast(message)
        sender.broadcast(message, to=["node2"])
        assert await town.inboxes["node1"].holds(1) == [("node0", message)]
        assert await town.inboxes["node2"].holds(2) == [("node0", message)] * 2
    assert len(town.inboxes["node1"].messages) == 1
    assert town.inboxes["node0"].messages == []


async def test_what_a_node_sends_to_itself_arrives_later_and_not_at_once(town: Town) -> None:
    async with town.mesh("node0") as sender:
        sender.send("node0", ResignWanted(1))
        assert town.inboxes["node0"].messages == []
        assert await town.inboxes["node0"].holds(1) == [("node0", ResignWanted(1))]


async def test_closing_sends_what_is_queued(town: Town) -> None:
    async with town.mesh("node1"):
        async with town.mesh("node0") as sender:
            sender.send("node1", ResignWanted(1))
        assert town.inboxes["node1"].messages == [("node0", ResignWanted(1))]


async def test_a_peer_that_is_down_is_told_of_once_and_once_when_it_is_back(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    def lines(text: str) -> int:
        return sum("node1" in record.getMessage() and text in record.getMessage() for record in caplog.records)

    async with town.mesh("node0") as sender:
        for term in range(5):
            sender.send("node1", ResignWanted(term))
        await until(lambda: sender.lost["node1"] == 5)
        assert lines("can't be reached") == 1
        assert sender.unreachable == {"node1": "Connection refused"}
        identity = town.identity("node1")
        async with town.mesh("node1", identity):
            sender.send("node1", ResignWanted(7))
            await town.inboxes["node1"].holds(1)
            await until(lambda: not sender.unreachable)
        # The same peer again, on the same port: the kept connection is broken, and the message arrives all the same.
        async with town.mesh("node1", identity):
            sender.send("node1", ResignWanted(8))
            assert (await town.inboxes["node1"].holds(2))[1] == ("node0", ResignWanted(8))
    assert lines("is reached again") == 1
    assert lines("can't be reached") == 1


async def test_who_sends_can_learn_that_a_message_was_not_delivered(town: Town) -> None:
    undelivered: list[int] = []
    async with town.mesh("node0") as sender:
        sender.send("node1", ResignWanted(1), lambda: undelivered.append(1))
        assert not undelivered, "not before it has returned"
        await until(lambda: undelivered == [1])
        async with town.mesh("node1"):
            sender.send("node1", ResignWanted(999), lambda: undelivered.append(999))  # refused: it got there
            sender.send("node1", ResignWanted(2), lambda: undelivered.append(2))
            await town.inboxes["node1"].holds(1)
    assert undelivered == [1]


async def test_a_node_of_a_foreign_authority_is_shut_out_both_ways(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = town.identity("node1", Authority.create("test"))
    async with town.mesh("node0") as ours, town.mesh("node1", foreign) as theirs:
        ours.send("node1", ResignWanted(1))
        theirs.send("node0", ResignWanted(1))
        await until(lambda: ours.lost["node1"] == 1 and theirs.lost["node0"] == 1)
        assert town.inboxes["node0"].messages == town.inboxes["node1"].messages == []
        assert "its certificate is not that of node1" in ours.unreachable["node1"]


async def test_a_peer_with_another_members_certificate_is_not_sent_to(town: Town) -> None:
    async with town.mesh("node0") as sender, town.mesh("node1", town.identity("node2")):
        sender.send("node1", ResignWanted(1))
        await until(lambda: sender.lost["node1"] == 1)
        assert "its certificate is not that of node1" in sender.unreachable["node1"]
        assert town.inboxes["node1"].messages == []


async def test_a_certificate_of_our_authority_with_no_members_name_is_refused(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Mesh(
        "guest",
        {**town.members, "guest": Member(host="127.0.0.1", mesh_port=free_port())},
        town.identity("guest"),
        max_message_bytes=LIMIT,
        on_message=Inbox(),
    )
    async with town.mesh("node0"), stranger:
        stranger.send("node0", ResignWanted(1))
        await until(lambda: stranger.lost["node0"] == 1)
        assert "member of the cluster" in stranger.unreachable["node0"]
    assert town.inboxes["node0"].messages == []
    assert "guest: is no member of this cluster" in caplog.text


async def _post(town: Town, data: object, **headers: str) -> int:
    """Post raw content to node0 as node1."""
    tls = town.identity("node1").client_context()
    async with aiohttp.ClientSession() as session:
        url = town.url("node0")
        async with session.post(url, data=data, ssl=tls, server_hostname="node0", headers=headers) as answer:
            return answer.status


async def test_garbage_is_refused_and_told_of_once(town: Town, caplog: pytest.LogCaptureFixture) -> None:
    content = [b"", b"\xc1", b"rubbish", encode(ResignWanted(1))[:-1], encode(ResignWanted(999))]
    async with town.mesh("node0"):
        tls = town.identity("node1").client_context()
        async with aiohttp.ClientSession() as session:
            for data in content * 2:
                async with session.post(town.url("node0"), data=data, ssl=tls, server_hostname="node0") as answer:
                    assert answer.status == 400
    said = [record.getMessage() for record in caplog.records if "once a minute" in record.getMessage()]
    assert len(said) == len(set(said))
    assert any("the test refuses this one" in line for line in said)
    assert all("node1" in line for line in said)
    assert town.inboxes["node0"].messages == []


async def test_oversized_and_lengthless_messages_are_refused_unread(town: Town) -> None:
    async def pieces() -> object:
        yield b"piece"

    overhead = len(encode(SnapshotReply(1, bytes(LIMIT - 100)))) - (LIMIT - 100)
    longest = encode(SnapshotReply(1, bytes(LIMIT - overhead)))
    assert len(longest) == LIMIT
    async with town.mesh("node0"):
        assert await _post(town, io.BytesIO(longest)) == 204
        assert await _post(town, io.BytesIO(longest + b"x")) == 413
        assert await _post(town, pieces()) == 413
    assert len(town.inboxes["node0"].messages) == 1


async def test_without_a_certificate_or_with_old_tls_there_is_no_connection(town: Town) -> None:
    identity = town.identity("node1")
    old = identity.client_context()
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    nameless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nameless.check_hostname = False
    nameless.verify_mode = ssl.CERT_NONE
    async with town.mesh("node0"), aiohttp.ClientSession() as session:
        for tls in (old, nameless):
            with pytest.raises((aiohttp.ClientError, OSError)):
                await session.post(town.url("node0"), data=b"", ssl=tls, server_hostname="node0")
    assert town.inboxes["node0"].messages == []


async def test_a_port_in_use_is_told_with_its_key(town: Town) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", town.members["node0"].mesh_port))
        taken.listen()
        with pytest.raises(OperatorError, match=r"cluster\.members\.node0\.mesh_port: port \d+ is in use"):
            await town.mesh("node0").__aenter__()


async def test_an_address_of_another_machine_is_told_with_its_key(town: Town) -> None:
    town.members["node0"] = Member(host="192.0.2.1", mesh_port=free_port())
    with pytest.raises(OperatorError, match=r"cluster\.members\.node0\.host"):
        await town.mesh("node0").__aenter__()


async def test_closing_is_prompt_beside_a_peer_that_never_answers(town: Town) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", town.members["node1"].mesh_port))
        mute.listen()
        loop = asyncio.get_running_loop()
        async with town.mesh("node0") as sender:
            sender.send("node1", ResignWanted(1))
            start = loop.time()
        assert loop.time() - start < 4.0


async def test_a_peer_that_comes_back_elsewhere_is_reached_there(town: Town) -> None:
    before = {**town.members, "node1": Member(host="127.0.0.1", mesh_port=free_port())}
    async with town.mesh("node0") as sender, town.mesh("node1"):
        sender.set_members(before)
        sender.send("node1", ResignWanted(1))
        await until(lambda: "node1" in sender.unreachable)
        sender.set_members(town.members)
        sender.send("node1", ResignWanted(2))
        assert await town.inboxes["node1"].holds(1) == [("node0", ResignWanted(2))]


async def test_a_peer_that_left_is_neither_sent_to_nor_heard(town: Town) -> None:
    async with town.mesh("node0") as stays, town.mesh("node1") as left:
        stays.set_members({name: member for name, member in town.members.items() if name != "node1"})
        assert set(stays.peers) == {"node2"}
        stays.send("node1", ResignWanted(1))
        left.send("node0", ResignWanted(2))
        await until(lambda: "does not take this node for a member" in left.unreachable.get("node0", ""))
        stays.set_members(town.members)
        left.send("node0", ResignWanted(3))
        assert await town.inboxes["node0"].holds(1) == [("node1", ResignWanted(3))]
    assert town.inboxes["node1"].messages == []
