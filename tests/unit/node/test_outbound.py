"""Envelopes on their way: stems, the two modes of delivery, and what is dropped."""

import asyncio
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from appliance.delivery.stem import VISITS
from appliance.envelopes.format import SALT_BYTES, Header, Kind, format_header
from appliance.node.outbound import Outbound
from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName
from appliance.words.messages import HandedOn, MeshMessage, Sealed
from appliance.words.settings import Delivery

KEY = bytes([7]) * 32
RELAYS = {"node1", "node2", "node3", "node4"}


class Place:
    """One node's outbound side, with a mesh that only remembers."""

    def __init__(self, *, mode: str = "relay", node: NodeName = "node1", leader: NodeName | None = "node0") -> None:
        self.sent: list[tuple[NodeName, MeshMessage]] = []
        self.to_all: list[MeshMessage] = []
        self.running: list[asyncio.Task[None]] = []
        self.live = frozenset({"node0", *RELAYS} - {node})
        self.undelivered: list[Callable[[], None]] = []
        mesh = SimpleNamespace(
            peers={"node0", *RELAYS} - {node},
            send=self._send,
            broadcast=self.to_all.append,
        )
        shells = SimpleNamespace(mesh=mesh, consensus=SimpleNamespace(live_peers=lambda: self.live))
        errands = SimpleNamespace(keep=lambda work: self.running.append(asyncio.ensure_future(work)))
        self.core = SimpleNamespace(node=node, leader=leader)
        settings = Delivery(mode=cast(Any, mode))
        self.outbound = Outbound(
            cast(Any, self.core), cast(Any, shells), cast(Any, errands), settings, random.Random(5)
        )
        self.outbound.leader_key_id = KEY

    def _send(self, peer: NodeName, message: MeshMessage, undelivered: Callable[[], None] | None = None) -> None:
        self.sent.append((peer, message))
        if undelivered is not None:
            self.undelivered.append(undelivered)

    async def send_update(self, sealed: Sealed, within_s: float = 0.0) -> None:
        self.outbound.send_update(within_s, sealed)
        await asyncio.gather(*self.running)


def envelope(number: int = 0, *, key: bytes = KEY, kind: Kind = Kind.TO_LEADER) -> Sealed:
    """Return what looks like an envelope, and is opened by nobody."""
    header = Header(kind, 3, 7, key, number.to_bytes(SALT_BYTES, "big"), b"w" * 256)
    return Sealed(memoryview(format_header(header) + bytes(100)))


async def test_an_update_goes_to_a_relay_or_to_the_leader() -> None:
    place = Place()
    for number in range(200):
        await place.send_update(envelope(number))
    handed_on = [peer for peer, message in place.sent if isinstance(message, HandedOn)]
    handed_in = [peer for peer, message in place.sent if isinstance(message, Sealed)]
    assert set(handed_on) == RELAYS - {"node1"}
    assert set(handed_in) == {"node0"}
    assert len(handed_on) + len(handed_in) == 200
    assert not place.to_all


async def test_dead_relays_are_not_chosen() -> None:
    place = Place()
    place.live = frozenset({"node0", "node3"})
    for number in range(50):
        await place.send_update(envelope(number))
    assert {peer for peer, message in place.sent if isinstance(message, HandedOn)} == {"node3"}


async def test_an_envelope_that_a_dead_relay_does_not_take_goes_another_way() -> None:
    place = Place()
    for number in range(50):
        place.outbound.hand_on(HandedOn(envelope(number).envelope))
        tried: list[NodeName] = []
        while isinstance(place.sent[-1][1], HandedOn):
            tried.append(place.sent[-1][0])
            place.undelivered[-1]()
        assert len(set(tried)) == len(tried) <= len(RELAYS) - 1, "none is tried twice"
        assert place.sent[-1] == ("node0", envelope(number)), "the last one delivers it itself"


async def test_an_envelope_that_was_not_taken_and_has_no_leader_any_more_is_dropped() -> None:
    place = Place()
    while not place.undelivered:
        await place.send_update(envelope())
    sent = len(place.sent)
    place.outbound.leader_key_id = b""
    place.undelivered[-1]()
    assert len(place.sent) == sent


async def test_in_broadcast_the_stem_ends_with_a_broadcast() -> None:
    place = Place(mode="broadcast")
    for number in range(50):
        place.outbound.hand_on(HandedOn(envelope(number).envelope))
    assert place.to_all
    assert {type(message) for message in place.to_all} == {Sealed}


async def test_a_leader_keeps_its_own_update() -> None:
    place = Place(node="node0")
    await place.send_update(envelope())
    assert place.sent == [("node0", envelope())]


async def test_what_is_handed_to_the_leader_has_arrived() -> None:
    place = Place(node="node0")
    place.outbound.hand_on(HandedOn(envelope().envelope))
    assert place.sent == [("node0", envelope())]


async def test_what_is_for_another_leader_is_dropped() -> None:
    place = Place()
    await place.send_update(envelope(key=bytes(32)))
    place.outbound.hand_on(HandedOn(envelope(key=bytes(32)).envelope))
    place.outbound.leader_key_id = b""
    await place.send_update(envelope())
    assert not place.sent


async def test_an_update_whose_leader_changed_while_it_waited_is_not_sent() -> None:
    place = Place()
    place.outbound.send_update(0.001, envelope())
    place.outbound.leader_key_id = bytes(32)
    await asyncio.gather(*place.running)
    assert not place.sent


def test_only_envelopes_for_the_leader_are_handed_on() -> None:
    place = Place()
    for kind in (Kind.TO_PARTICIPANT, Kind.CANDIDATE):
        header = Header(kind, 3, 7, KEY, bytes(SALT_BYTES), b"" if kind is Kind.CANDIDATE else b"w" * 256)
        with pytest.raises(RemoteError, match="not for the leader"):
            place.outbound.hand_on(HandedOn(memoryview(format_header(header))))
    with pytest.raises(RemoteError, match="cut short"):
        place.outbound.hand_on(HandedOn(memoryview(b"p2pE")))
    assert not place.sent


def test_one_envelope_again_and_again_is_refused() -> None:
    place = Place()
    for _ in range(VISITS):
        place.outbound.hand_on(HandedOn(envelope().envelope))
    with pytest.raises(RemoteError, match="again and again"):
        place.outbound.hand_on(HandedOn(envelope().envelope))
    assert len(place.sent) == VISITS


def test_an_answer_goes_to_who_asked_or_to_all() -> None:
    place = Place(node="node0")
    place.outbound.answer("node3", envelope(kind=Kind.TO_PARTICIPANT))
    assert [peer for peer, _ in place.sent] == ["node3"]
    place = Place(node="node0", mode="broadcast")
    place.outbound.answer("node3", envelope(kind=Kind.TO_PARTICIPANT))
    assert len(place.to_all) == 1
    place.outbound.answer("node3", None)
    place.outbound.send_request(None)
    assert len(place.to_all) == 1


def test_a_request_takes_the_short_way() -> None:
    place = Place()
    place.outbound.send_request(envelope())
    assert place.sent == [("node0", envelope())]
