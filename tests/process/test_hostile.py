"""A member that turned hostile, and strangers: rounds go on, the reason is in the log, and the model stays sound."""

import asyncio
import contextlib
import hashlib
import http.client
import math
import secrets
import shutil
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from safetensors.numpy import load, save

from appliance.delivery.padding import pad, padded_length
from appliance.envelopes.format import SALT_BYTES, Header, Kind, format_header
from appliance.envelopes.keys import PrivateKey, key_id_of, load_public, load_recipient, public_der
from appliance.envelopes.seal import open_envelope, read_header, seal
from appliance.mesh.mesh import Mesh
from appliance.node.cluster import create_cluster
from appliance.node.config import load as load_config
from appliance.operator_api.client import NodeApi
from appliance.pki.identity import NodeIdentity
from appliance.tokens.token import Token
from appliance.tokens.wallet import SEED_BYTES, Wallet
from appliance.words.ids import NodeName
from appliance.words.messages import (
    Announcement,
    MeshMessage,
    Opening,
    Receipt,
    Sealed,
    Signed,
    TokenSigned,
    TokenWanted,
    Update,
    decode_statement,
    decode_to_participant,
    encode,
)
from appliance.words.models import Encoding, Metrics
from appliance.words.settings import Rounds
from tests.process.cluster import TIME_LENGTH, Cluster, NodeProcess, plan
from tests.process.conftest import MakeCluster
from tests.process.waiting import until

MEMBERS = 3
REPLY_SECRET = bytes(range(32))


class Impostor:
    """node2's certificate and port in the hands of the test: hears all that the leader says, sends what it likes."""

    def __init__(self, cluster: Cluster, node: NodeProcess) -> None:
        self.node = node
        self._cluster = cluster
        self.identity = NodeIdentity.load(node.config.identity, node.name)
        self.announcement: Announcement | None = None
        self.opening: Opening | None = None
        self.receipts: dict[bytes, Receipt] = {}
        self.token: Token | None = None
        self._wallet = Wallet(secrets.token_bytes(SEED_BYTES))
        self._mesh: Mesh | None = None
        self._reply_keys: dict[bytes, RSAPrivateKey] = {}

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[Mesh]:
        config = self.node.config
        mesh = Mesh(
            self.node.name,
            config.cluster.members,
            self.identity,
            max_message_bytes=config.max_message_bytes,
            on_message=self._hear,
        )
        self._mesh = mesh
        async with mesh:
            try:
                yield mesh
            finally:
                # First who calls, then who listens: before Python 3.12 a server that ends forgets, and never closes,
                # the connections that are in their TLS handshake.
                self._cluster.close()

    def _hear(self, _: NodeName, message: MeshMessage) -> None:
        if isinstance(message, Signed):
            statement = decode_statement(message.payload)
            if isinstance(statement, Announcement):
                self.announcement = statement
            elif isinstance(statement, Opening):
                self._hear_opening(statement)
        elif isinstance(message, TokenSigned) and self.opening is not None:
            self.token = self._wallet.take(*self._token_key(self.opening), message.signature)
        elif isinstance(message, Sealed):
            key = self._reply_keys.get(read_header(message.envelope).key_id)
            if key is not None:
                answer = decode_to_participant(open_envelope(message.envelope, PrivateKey(key, secret=REPLY_SECRET)))
                assert isinstance(answer, Receipt)
                self.receipts[answer.update_id] = answer

    def _hear_opening(self, opening: Opening) -> None:
        """Ask for a token of each round, as everybody does."""
        if self.opening is None or self.opening.token_key != opening.token_key:
            self.token = None
            assert self._mesh is not None
            blinded = self._wallet.ask(*self._token_key(opening))
            self._mesh.send(opening.leader, TokenWanted(opening.term, opening.round, blinded))
        self.opening = opening

    @staticmethod
    def _token_key(opening: Opening) -> tuple[RSAPublicKey, bytes]:
        return load_public(opening.token_key), key_id_of(opening.token_key)

    @property
    def is_ready(self) -> bool:
        """Tell whether it knows the leader's key and a round, and has its token."""
        return self.announcement is not None and self.opening is not None and self.token is not None

    def signed(self, statement: Announcement | Opening) -> Signed:
        """Sign with node2's own key what its leader might say."""
        payload = encode(statement)
        return Signed(payload, self.identity.certificate_der, self.identity.sign(payload))

    def update(
        self,
        weights: bytes,
        *,
        samples: int = 100,
        base: str | None = None,
        round_: int = -1,
        token: Token | None = None,
        encoding: Encoding = "float32",
    ) -> Update:
        """Make an update for the open round, with a reply key of ours."""
        assert self.opening is not None
        token = token or self.token
        assert token is not None
        key = generate_private_key(65537, 2048)
        reply_key = public_der(key)
        self._reply_keys[key_id_of(reply_key)] = key
        return Update(
            update_id=secrets.token_bytes(16),
            nonce=token.nonce,
            token=token.signature,
            round=self.opening.round if round_ < 0 else round_,
            base=base or self.opening.base,
            samples=samples,
            metrics=Metrics(0.5, 1.0, 10),
            reply_key=reply_key,
            reply_secret=REPLY_SECRET,
            encoding=encoding,
            weights=memoryview(weights),
        )

    def sealed(self, content: bytes) -> Sealed:
        """Seal anything to the leader."""
        assert self.announcement is not None
        leader = load_recipient(self.announcement.public_key, "rsa")
        padded = b"".join(pad(padded_length(len(content)), content))
        envelope = seal(padded, leader, kind=Kind.TO_LEADER, term=self.announcement.term, round=0)
        return Sealed(memoryview(envelope))


async def heard(condition: Callable[[], object], what: str) -> None:
    """Wait for what comes on this event loop, which must run meanwhile."""
    await asyncio.to_thread(until, condition, what)


@pytest.fixture
def besieged(make_cluster: MakeCluster) -> tuple[Cluster, Impostor]:
    """Two honest nodes of three at work, slowly enough that a round is open most of the time; node2 is an impostor."""
    cluster = make_cluster(plan(MEMBERS, rounds=Rounds(interval_s=0.0, deadline_s=20.0)))
    cluster["node0"].slow_down(epochs=15)
    cluster.start("node0", "node1")
    cluster.wait_leader()
    cluster.wait_version(0)
    return cluster, Impostor(cluster, cluster["node2"])


async def test_hostile_updates_are_refused_with_a_reason(besieged: tuple[Cluster, Impostor]) -> None:
    cluster, impostor = besieged
    async with impostor.at_work() as mesh:
        await heard(lambda: impostor.is_ready, "key, round and token")
        sound = cluster["node1"].api.get("/v1/model")
        names = load(sound)
        poisoned = {name: np.full_like(array, np.nan) for name, array in names.items()}
        others = {name: array[..., :1].copy() for name, array in names.items()}
        cases = {
            "holds a value that is not finite": lambda: impostor.update(save(poisoned)),
            " is not of shape ": lambda: impostor.update(save(others)),
            "an update must stand for 1 to": lambda: impostor.update(sound, samples=0),
            "it is encoded as int8, and this round takes float32": lambda: impostor.update(sound, encoding="int8"),
            "it was trained on another base model": lambda: impostor.update(sound, base="sha256:" + "0" * 64),
            "it is for round 999999": lambda: impostor.update(sound, round_=999_999),
            "not the leader's of this round": lambda: impostor.update(sound, token=Token(bytes(32), bytes(256))),
        }
        for reason, make in cases.items():
            await _refused(impostor, mesh, make, reason)
        # Not even an update: bytes that only look like an envelope, and an envelope of rubbish.
        assert impostor.announcement is not None
        header = Header(Kind.TO_LEADER, 1, 1, impostor.announcement.key_id, secrets.token_bytes(SALT_BYTES), b"x" * 256)
        for _ in range(20):
            mesh.broadcast(Sealed(memoryview(format_header(header) + secrets.token_bytes(1000))))
            mesh.broadcast(impostor.sealed(secrets.token_bytes(1000)))
        leader = cluster.wait_leader()
        await heard(partial(_says, leader, "an envelope that node2 delivered is refused"), "a line in the log")
        version = cluster.newest_version()
        await asyncio.to_thread(cluster.wait_version, version + 2)
        _check_said_once(cluster)
        _check_sane(cluster)


def _check_said_once(cluster: Cluster) -> None:
    for node in cluster.running:
        for sentence in {line[TIME_LENGTH:] for line in node.log().splitlines() if "once a minute" in line}:
            _check_once_a_minute(node, sentence)


def _check_once_a_minute(node: NodeProcess, sentence: str) -> None:
    times = node.logged_at(sentence)
    assert times, f"{node.name} does not say: {sentence}"
    assert all(later - earlier > timedelta(seconds=59) for earlier, later in pairwise(times)), times


async def _refused(impostor: Impostor, mesh: Mesh, make: Callable[[], Update], reason: str) -> None:
    """Send such updates until one meets an open round; its receipt must give the reason."""
    answers: list[str] = []

    def answered() -> bool:
        answers.extend(receipt.reason for receipt in impostor.receipts.values() if not receipt.accepted)
        assert all(not receipt.accepted for receipt in impostor.receipts.values()), "a hostile update counts"
        return any(reason in answer and "late" not in answer and "no round" not in answer for answer in answers)

    for _ in range(20):
        await heard(lambda: impostor.is_ready, "a token")
        impostor.receipts.clear()
        mesh.broadcast(impostor.sealed(encode(make())))
        await heard(lambda: impostor.receipts, "a receipt")
        if answered():
            return
    raise AssertionError(f"never refused because {reason!r}: {answers}")


async def test_a_member_counts_once_in_a_round(besieged: tuple[Cluster, Impostor]) -> None:
    """Two sound updates under different ids with its one token: one counts at most, and it gets no second token."""
    cluster, impostor = besieged
    async with impostor.at_work() as mesh:
        await heard(lambda: impostor.is_ready, "key, round and token")
        sound = cluster["node1"].api.get("/v1/model")
        for _ in range(20):
            await heard(lambda: impostor.is_ready, "a token")
            assert impostor.opening is not None
            impostor.receipts.clear()
            twins = [impostor.update(sound), impostor.update(sound)]
            for update in twins:
                mesh.broadcast(impostor.sealed(encode(update)))
            await heard(lambda: len(impostor.receipts) == 2, "both receipts")
            accepted = [receipt.accepted for receipt in impostor.receipts.values()]
            assert sum(accepted) <= 1, "two updates of one member count"
            if any(receipt.reason == "its token was used for another update" for receipt in impostor.receipts.values()):
                break
        else:
            raise AssertionError("no round took the first of two updates")
        await _wants_a_second_token(cluster, impostor, mesh)
        _check_sane(cluster)


async def _wants_a_second_token(cluster: Cluster, impostor: Impostor, mesh: Mesh) -> None:
    """Ask for another token in each round, until a leader has said that it gives none."""

    def refused() -> bool:
        return any(_says(node, "a token for node2 is refused") for node in cluster.running)

    def over(opening: Opening) -> bool:
        return refused() or impostor.opening is not opening

    for _ in range(20):
        await heard(lambda: impostor.is_ready, "a token")
        opening = impostor.opening
        assert opening is not None
        another = secrets.token_bytes(255).rjust(256, b"\0")
        mesh.send(opening.leader, TokenWanted(opening.term, opening.round, another))
        await heard(partial(over, opening), "a refusal, or the next word of the leader")
        if refused():
            return
    raise AssertionError("no leader refused a second token")


async def test_who_poses_as_leader_is_not_followed(besieged: tuple[Cluster, Impostor]) -> None:
    cluster, impostor = besieged
    async with impostor.at_work() as mesh:
        await heard(lambda: impostor.announcement and impostor.opening, "key and round")
        assert impostor.announcement is not None
        assert impostor.opening is not None
        key = public_der(generate_private_key(65537, 2048))
        ours = {"leader": "node2", "key_id": key_id_of(key)}
        for term in (impostor.announcement.term, 2**61):
            announcement = msgspec.structs.replace(impostor.announcement, term=term, public_key=key, **ours)
            opening = msgspec.structs.replace(impostor.opening, term=term, round=2**61, **ours)
            for statement in (announcement, opening, announcement):
                mesh.broadcast(impostor.signed(statement))
        # In the leader's name, with our signature; and with the leader's certificate, which is no secret.
        forged = impostor.signed(impostor.announcement)
        mesh.broadcast(forged)
        mesh.broadcast(msgspec.structs.replace(forged, certificate=_certificate(cluster[impostor.announcement.leader])))
        said = (
            "statement: node2 claims to lead a term that",
            "statement: node2 signed it in the name of another leader",
            f"statement: the signature is not that of {impostor.announcement.leader}",
        )
        for node in cluster.running:
            for sentence in said:
                await heard(partial(_says, node, sentence), sentence)
        version = cluster.newest_version()
        await asyncio.to_thread(cluster.wait_version, version + 2)
        status = until(cluster["node0"].status, "it answers")
        assert status.leader in {"node0", "node1"}
        assert status.term < 2**61
        assert status.round < 2**61
        _check_said_once(cluster)
        _check_sane(cluster)


def _says(node: NodeProcess, sentence: str) -> bool:
    return sentence in node.log()


def _certificate(node: NodeProcess) -> bytes:
    return NodeIdentity.load(node.config.identity, node.name).certificate_der


def test_rubbish_on_the_mesh_port(besieged: tuple[Cluster, Impostor]) -> None:
    """With a member's certificate, over HTTP and below it."""
    cluster, impostor = besieged
    victim = cluster["node1"]
    tls = impostor.identity.client_context()
    assert _post(victim, tls, secrets.token_bytes(10_000)) == 400
    assert _post(victim, tls, b"") == 400
    assert _post(victim, tls, b"x", length=victim.config.max_message_bytes + 1) == 413
    with _connect(victim, tls) as channel:
        channel.sendall(secrets.token_bytes(5000))
        with contextlib.suppress(OSError):
            while channel.recv(65536):
                pass
    # Ends in the middle of a message, and never says another byte.
    silent = _connect(victim, tls)
    silent.sendall(b"POST /v1/messages HTTP/1.1\r\nHost: node1\r\nContent-Length: 1000000\r\n\r\nabc")
    with socket.create_connection(("127.0.0.1", victim.config.me.mesh_port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(OSError):
            plain.recv(100)
    cluster.wait_version(cluster.newest_version() + 2)
    silent.close()
    log = victim.log()
    assert "mesh: node2: not a message of the protocol" in log
    _check_said_once(cluster)
    assert "mesh: node2: sent a message that is longer than" in log
    _check_sane(cluster)


def test_strangers_are_refused_in_tls(besieged: tuple[Cluster, Impostor], tmp_path: Path) -> None:
    """A certificate of another cluster's authority, and none at all: no byte of theirs is read."""
    cluster, _ = besieged
    victim = cluster["node1"]
    foreign = create_cluster(tmp_path / "foreign", plan(MEMBERS))[2]
    config = load_config(foreign)
    # Its own certificate, and trust in whom it attacks.
    shutil.copy(victim.config.identity.ca, tmp_path / "ca.pem")
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.load_verify_locations(tmp_path / "ca.pem")
    stranger.load_cert_chain(config.identity.certificate, config.identity.private_key)
    nameless = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nameless.load_verify_locations(tmp_path / "ca.pem")
    for context in (stranger, nameless):
        with pytest.raises(OSError):  # noqa: PT011 - an alert or a closed connection, as the race between them ends
            _post(victim, context, b"\x81\xa4type")
    cluster.wait_version(cluster.newest_version() + 1)
    _check_sane(cluster)


def test_rubbish_on_the_consensus_port(besieged: tuple[Cluster, Impostor]) -> None:
    cluster, _ = besieged
    victim = cluster["node1"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for size in (0, 1, 45, 46, 1400, 1401, 60_000):
            sender.sendto(secrets.token_bytes(size), ("127.0.0.1", victim.config.me.consensus_port))
        tag = hashlib.sha256(b"node2").digest()[:8]
        for counter in range(100):
            head = struct.pack(">BB8s8s8sI", 2, 2, tag, bytes(8), b"no token", counter)
            sender.sendto(head + secrets.token_bytes(100), ("127.0.0.1", victim.config.me.consensus_port))
    sentence = "consensus datagrams from 127.0.0.1 are none of this protocol's version"
    until(lambda: sentence in victim.log(), "a line in the log")

    def counted() -> bool:
        status = victim.status()
        return status is not None and status.network.datagrams_refused.get("node2", 0) == 100

    until(counted, "what names node2 as its sender is counted, and not told: no key was ever agreed with it")
    cluster.wait_version(cluster.newest_version() + 1)
    _check_once_a_minute(victim, sentence)
    _check_sane(cluster)


def _post(node: NodeProcess, tls: ssl.SSLContext, body: bytes, *, length: int | None = None) -> int:
    """Send one message to the mesh port; return the status of the answer."""
    connection = http.client.HTTPSConnection("127.0.0.1", node.config.me.mesh_port, timeout=10, context=tls)
    try:
        connection.putrequest("POST", "/v1/messages")
        connection.putheader("Content-Length", str(len(body) if length is None else length))
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


def _connect(node: NodeProcess, tls: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", node.config.me.mesh_port), timeout=10)
    return tls.wrap_socket(raw, server_hostname=node.name)


def _check_sane(cluster: Cluster) -> None:
    """All run, none has a fault, the lineage is whole, and the newest model is finite and has learnt something."""
    assert {node.name for node in cluster.running} >= {"node0", "node1"}
    for node in cluster.running:
        assert until(node.status, f"{node.name} answers").faults == []
        assert "Traceback" not in node.log()
        cluster.check_rounds(node.lineage())
    cluster.check_lineages()
    newest = cluster["node0"].lineage()[-1]
    assert newest.updates <= 2
    assert math.isfinite(newest.loss)
    assert newest.accuracy > 0.5
    model = load(NodeApi(cluster["node0"].config.operator).get("/v1/model"))
    assert all(np.isfinite(array).all() for array in model.values())
