"""Agreements on the secrets of datagrams: two sides, a bad mesh, restarts; and datagrams under what they agree on."""

import random
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from appliance.datagrams.agreement import (
    ASK_EVERY_S,
    KEPT_AT_MOST_S,
    RENEWED_EVERY_S,
    SILENT_S,
    Agreement,
    KeyMessage,
)
from appliance.datagrams.keys import AgreedKeys
from appliance.datagrams.pair import FORMER_KEPT_S, Pair
from appliance.datagrams.sealing import Refusal, RefusedError, parse
from appliance.words.errors import RemoteError
from appliance.words.ids import Monotonic, NodeName
from appliance.words.messages import DatagramKeyAnswer, DatagramKeyOffer, DatagramKeyWanted

A, B = "node0", "node1"
START = Monotonic(1000.0)


def agreement(me: NodeName, peer: NodeName, seed: int = 1) -> Agreement:
    return Agreement(cluster="c", me=me, peer=peer, random=random.Random(f"{me}{seed}").randbytes)


def test_the_first_name_offers_and_both_have_one_secret() -> None:
    first, second = agreement(A, B), agreement(B, A)
    offer = first.tick(START, heard=False)
    assert isinstance(offer, DatagramKeyOffer)
    assert second.tick(START, heard=False) == DatagramKeyWanted()
    answered = second.offered(offer, START)
    assert answered is not None
    answer, secret = answered
    assert secret is not None
    assert first.answered(answer, START) == secret
    assert len(secret) == 32
    assert first.tick(Monotonic(START + 5.0), heard=True) is None


def test_the_secret_is_that_of_fixed_keys() -> None:
    """A golden vector: how the secret is derived is part of the protocol (docs/protocol.md, section 5)."""

    def fixed(byte: int) -> Agreement:
        me, peer = (A, B) if byte == 1 else (B, A)
        return Agreement(cluster="c", me=me, peer=peer, random=lambda count: bytes([byte]) * count)

    first, second = fixed(1), fixed(2)
    offer = first.tick(START, heard=False)
    assert isinstance(offer, DatagramKeyOffer)
    answered = second.offered(offer, START)
    assert answered is not None
    assert answered[1] is not None
    assert offer.public_key.hex() == "a4e09292b651c278b9772c569f5fa9bb13d906b46ab68c9df9dc2b4409f8a209"
    assert answered[1].hex() == GOLDEN


GOLDEN = "fc2caaf42c129cc400f7eca5c470add12f11089d0cdd7b2fc331d8a1cb5d13d7"


def test_an_answer_to_an_earlier_offer_is_none() -> None:
    first, second = agreement(A, B), agreement(B, A)
    old = first.tick(START, heard=False)
    new = first.tick(Monotonic(START + ASK_EVERY_S), heard=False)
    assert isinstance(old, DatagramKeyOffer)
    assert isinstance(new, DatagramKeyOffer)
    late = second.offered(old, START)
    assert late is not None
    assert first.answered(late[0], START) is None
    assert first.agreed_at is None


def test_a_doubled_offer_has_the_same_answer_and_no_new_secret() -> None:
    first, second = agreement(A, B), agreement(B, A)
    offer = first.tick(START, heard=False)
    assert isinstance(offer, DatagramKeyOffer)
    answered = second.offered(offer, START)
    assert answered is not None
    assert second.offered(offer, Monotonic(START + 60.0)) == (answered[0], None)


def test_a_flood_of_offers_costs_little() -> None:
    second = agreement(B, A)
    offers = [DatagramKeyOffer(X25519PrivateKey.generate().public_key().public_bytes_raw()) for _ in range(20)]
    assert sum(second.offered(offer, START) is not None for offer in offers) == 1


@pytest.mark.parametrize("key", [bytes(32), (1).to_bytes(32, "little")])
def test_a_key_of_low_order_is_refused(key: bytes) -> None:
    with pytest.raises(RemoteError, match="its key is none"):
        agreement(B, A).offered(DatagramKeyOffer(key), START)


def test_who_is_to_answer_may_not_offer() -> None:
    with pytest.raises(RemoteError, match="this node's part"):
        agreement(A, B).offered(DatagramKeyOffer(b"x" * 32), START)


@dataclass
class Side:
    """One node: its keys, and its side of the pair."""

    world: "World"
    me: NodeName
    peer: NodeName
    alive: bool = True
    taken: list[bytes] = field(default_factory=list)

    def start(self) -> None:
        source = self.world.chance
        self.alive = True
        self.pair = Pair(cluster="c", me=self.me, peer=self.peer, random=source.randbytes)
        self.keys = AgreedKeys(
            cluster="c",
            me=self.me,
            random=source.randbytes,
            send=lambda _, message: self.world.carry(self.me, message),
            install=lambda _, secret: self.pair.set_secret(secret, self.world.now),
        )
        self.keys.set_peers({self.peer})
        self.heard_at = -1e9

    def tick(self) -> None:
        now = self.world.now
        self.keys.tick({self.peer} if now - self.heard_at < 2.0 else set(), now)
        self.world.sent += 1
        datagram = self.pair.seal(f"{self.me} {self.world.sent}".encode(), now)
        for each in [*self.pair.outbox(), *([] if datagram is None else [datagram])]:
            self.world.throw(self.me, each)

    def receive(self, datagram: bytes) -> None:
        try:
            content = self.pair.open(*parse(datagram), self.world.now)
        except RefusedError:
            content = None
        for each in self.pair.outbox():
            self.world.throw(self.me, each)
        if content is not None:
            assert content not in self.taken, "a datagram is taken twice"
            self.taken.append(content)
            self.heard_at = self.world.now


class World:
    """Two sides, a mesh and a network that lose, double and delay, one clock, one seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = START
        self.bad = True
        self.sent = 0
        self.recorded: list[tuple[NodeName, bytes]] = []
        self.nonces: dict[tuple[NodeName, bytes], bytes] = {}
        self._coming: list[tuple[float, NodeName, KeyMessage | bytes]] = []
        self.sides = {A: Side(self, A, B), B: Side(self, B, A)}
        for side in self.sides.values():
            side.start()

    def carry(self, sender: NodeName, message: KeyMessage) -> None:
        self._send(sender, message, loss=0.3)

    def throw(self, sender: NodeName, datagram: bytes) -> None:
        header, _ = parse(datagram)
        known = self.nonces.setdefault((sender, header.nonce), datagram)
        assert known == datagram, "one nonce seals two datagrams"
        self.recorded.append((sender, datagram))
        self._send(sender, datagram, loss=0.2)

    def _send(self, sender: NodeName, what: KeyMessage | bytes, loss: float) -> None:
        copies = 2 if self.bad and self.chance.random() < 0.2 else 1
        for _ in range(copies):
            if not self.bad or self.chance.random() >= loss:
                delay = self.chance.uniform(0.0, 1.5 if self.bad else 0.02)
                self._coming.append((self.now + delay, self.sides[sender].peer, what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now = Monotonic(self.now + 0.05)
            for side in self.sides.values():
                if side.alive:
                    side.tick()
            due = sorted((each for each in self._coming if each[0] <= self.now), key=lambda each: each[0])
            self._coming = [each for each in self._coming if each[0] > self.now]
            for _, receiver, what in due:
                self._deliver(self.sides[receiver], what)

    def _deliver(self, side: Side, what: KeyMessage | bytes) -> None:
        if not side.alive:
            return
        if isinstance(what, bytes):
            side.receive(what)
        else:
            side.keys.on_message(side.peer, what, self.now)


@pytest.mark.parametrize("seed", range(30))
def test_two_nodes_come_to_talk_whatever_happened(seed: int) -> None:
    world = World(seed)
    for _ in range(6):
        world.run(world.chance.uniform(0.5, 4.0))
        side = world.sides[world.chance.choice((A, B))]
        side.alive = False
        world.run(world.chance.uniform(0.0, 2.0))
        side.start()
        # Somebody sends again what was recorded, whoever was up then.
        for sender, datagram in world.chance.sample(world.recorded, min(20, len(world.recorded))):
            world._deliver(world.sides[world.sides[sender].peer], datagram)
    world.bad = False
    # At worst an old offer came after a newer one, as it can't over TCP: the former secret serves until it is dropped,
    # and then the silence is noticed.
    world.run(FORMER_KEPT_S + SILENT_S + 4.0)
    before = {name: len(side.taken) for name, side in world.sides.items()}
    world.run(2.0)
    for name, side in world.sides.items():
        assert len(side.taken) >= before[name] + 30, f"{name} hears nothing"


def test_a_renewal_is_no_pause() -> None:
    world = World(1)
    world.bad = False
    world.run(2.0)
    world.now = Monotonic(world.now + RENEWED_EVERY_S)
    for side in world.sides.values():
        side.heard_at = world.now
    agreed = {name: side.keys._agreements[side.peer].agreed_at for name, side in world.sides.items()}
    before = {name: len(side.taken) for name, side in world.sides.items()}
    world.run(FORMER_KEPT_S + 2.0)
    for name, side in world.sides.items():
        assert side.keys._agreements[side.peer].agreed_at != agreed[name], "it was not renewed"
        assert len(side.taken) >= before[name] + (FORMER_KEPT_S + 2.0) / 0.05 - 1, "datagrams were lost"


def test_without_a_mesh_the_last_secret_serves_for_a_day() -> None:
    first, second = agreement(A, B), agreement(B, A)
    offer = first.tick(START, heard=False)
    assert isinstance(offer, DatagramKeyOffer)
    answered = second.offered(offer, START)
    assert answered is not None
    first.answered(answered[0], START)
    late = Monotonic(START + RENEWED_EVERY_S + 61.0)
    assert isinstance(first.tick(late, heard=True), DatagramKeyOffer)
    assert first.is_overdue(late)
    assert first.agreed_at == START
    first.tick(Monotonic(START + KEPT_AT_MOST_S), heard=True)
    assert first.agreed_at is None


def test_who_is_no_peer_any_more_has_no_secret() -> None:
    installed: list[tuple[NodeName, bytes | None]] = []
    sent: list[tuple[NodeName, KeyMessage]] = []
    keys = AgreedKeys(
        cluster="c",
        me=B,
        random=random.Random(1).randbytes,
        send=lambda peer, message: sent.append((peer, message)),
        install=lambda peer, secret: installed.append((peer, secret)),
    )
    keys.set_peers({A})
    offer = agreement(A, B).tick(START, heard=False)
    assert isinstance(offer, DatagramKeyOffer)
    keys.on_message(A, offer, START)
    assert [peer for peer, _ in installed] == [A]
    assert isinstance(sent[-1][1], DatagramKeyAnswer)
    keys.set_peers(set())
    assert installed[-1] == (A, None)
    keys.on_message(A, offer, START)
    assert len(installed) == 2


def test_what_comes_before_a_secret_is_counted_and_not_told() -> None:
    pair = Pair(cluster="c", me=A, peer=B, random=random.Random(1).randbytes)
    other = Pair(cluster="c", me=B, peer=A, random=random.Random(2).randbytes)
    other.set_secret(bytes(32), START)
    [hello] = other.outbox()
    with pytest.raises(RefusedError) as refused:
        pair.open(*parse(hello), START)
    assert refused.value.refusal is Refusal.NO_KEY
    pair.set_secret(b"x" * 32, START)
    with pytest.raises(RefusedError) as refused:
        pair.open(*parse(hello), START)
    assert refused.value.refusal is Refusal.NO_KEY
    with pytest.raises(RefusedError) as refused:
        pair.open(*parse(hello), Monotonic(START + FORMER_KEPT_S))
    assert refused.value.refusal is Refusal.WRONG_KEY
