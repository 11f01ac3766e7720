"""Targets behind a check that stops a fuzzer: a checksum or a key that is put right here, or agreement on the entry.

A fuzzer can't make a checksum, and someone who writes files can; it has no key, and a member of the cluster has one.
"""

import contextlib
import hashlib
from pathlib import Path

import msgspec

from appliance.consensus import messages as consensus_messages
from appliance.datagrams.association import HELLO_EVERY, Association
from appliance.datagrams.sealing import CONTENT_LIMIT, NO_TOKEN, Cipher, Header, Kind, RefusedError, parse, tag_of
from appliance.node.core import NodeCore
from appliance.storage.models import KeptUpdate, Residual, ResidualStore, UpdateStore
from appliance.training import examples
from appliance.words.errors import RemoteError, StateError
from appliance.words.ids import Monotonic, NodeName
from appliance.words.models import GlobalModel
from appliance.words.random import RandomBytes
from appliance.words.settings import Consensus, Delivery, Rounds

_SECRET = bytes(range(32))
_NOW = Monotonic(100.0)


def kept_update(content: bytes, scratch: Path) -> None:
    """The update that a node keeps: its record, under a sound checksum; or the file as it is."""
    magic = b"p2pfl-node kept update 1\n"
    whole = content if content.startswith(magic) else magic + hashlib.sha256(content).digest() + content
    folder = scratch / "updates"
    store = UpdateStore(folder)
    (folder / "update").write_bytes(whole)
    found = store.get()
    if not isinstance(found, KeptUpdate):
        assert not (folder / "update").exists(), "what can't be read is removed"
        return
    store.put(found)
    again = store.get()
    assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(found)


def residual(content: bytes, scratch: Path) -> None:
    """What encoding lost of an update: its record, under a sound checksum; or the file as it is."""
    magic = b"p2pfl-node residual 1\n"
    whole = content if content.startswith(magic) else magic + hashlib.sha256(content).digest() + content
    folder = scratch / "residuals"
    store = ResidualStore(folder)
    (folder / "residual").write_bytes(whole)
    found = store.get()
    if not isinstance(found, Residual):
        assert not (folder / "residual").exists(), "what can't be read is removed"
        return
    store.put_next(found)
    store.settle(found.update_id, found.term)
    assert store.get() == found


def lineage(content: bytes) -> None:
    """An entry that a leader had committed, or the state in a snapshot: whoever can read it can show it to others."""
    for take in ("entry", "state"):
        core = _new_core()
        try:
            if take == "state":
                core.restore(content, _NOW)
            else:
                core.entries_committed(
                    [consensus_messages.Entry(1, 1, "data", content[: consensus_messages.ENTRY_LIMIT])], _NOW
                )
        except StateError:
            continue
        models = list(core.lineage.models)
        assert msgspec.json.decode(msgspec.json.encode(models), type=list[GlobalModel]) == models
        again = _new_core()
        again.restore(core.snapshot(), _NOW)
        assert list(again.lineage.models) == models


def _new_core() -> NodeCore:
    return NodeCore(
        node="node0",
        cluster="demo",
        members=frozenset({"node0", "node1", "node2"}),
        rounds=Rounds(),
        consensus=Consensus(),
        delivery=Delivery(),
        key_rounds=100,
        term=0,
        kept=None,
        stored=frozenset(),
        now=_NOW,
    )


def shard(content: bytes, scratch: Path) -> None:
    """The file of a node's shard; what is read of it can be learnt from."""
    file = scratch / "shard.safetensors"
    file.write_bytes(content)
    try:
        read = examples.read(file)
    except (OSError, ValueError):
        return
    for each in read:
        assert each.labels.shape == (len(each),)
        assert each.images.shape == (len(each), 28, 28)
    file.write_bytes(examples.encode(*read))
    assert examples.encode(*examples.read(file)) == file.read_bytes()


def opened_datagram(content: bytes) -> None:
    """Datagrams of a peer that has the key and lies: a byte for each that says its kind, one for its length, the rest.

    Whatever they hold, the two nodes talk to each other afterwards: the liar's own session apart, which is then anew.
    """
    a, b = _association("a", "b"), _association("b", "a")
    now = Monotonic(_NOW)
    _talk(a, b, now)
    liar = Cipher(cluster="demo", sender="b", receiver="a", secret=_SECRET)
    token = b._token or NO_TOKEN  # the liar is ``b``, and knows what it was given
    position, counter = 0, 1000
    while position + 2 <= len(content):
        kind, length = Kind(content[position] % len(Kind)), content[position + 1]
        said = content[position + 2 : position + 2 + length][:CONTENT_LIMIT]
        position, counter = position + 2 + length, counter + 1
        bound = NO_TOKEN if kind is Kind.HELLO else token
        header = Header(kind, tag_of("b"), b._session, bound, counter)
        try:
            message = a.open(*parse(liar.seal(header, said)), now)
            if message is not None:
                consensus_messages.decode(message)
        except RemoteError:
            continue
    assert len(a.outbox) <= position + 8, "a flood is not answered by a larger one"
    a.outbox = []
    later = Monotonic(now + 2 * HELLO_EVERY)
    again = _association("b", "a", salt=b"restarted")
    _talk(a, again, later)
    datagram = again.seal(b"content", Monotonic(later + 1.0))
    assert datagram is not None
    assert a.open(*parse(datagram), Monotonic(later + 1.0)) == b"content"


def _association(me: NodeName, peer: NodeName, salt: bytes = b"") -> Association:
    return Association(cluster="demo", me=me, peer=peer, secret=_SECRET, random=_random(me.encode() + salt))


def _random(seed: bytes) -> RandomBytes:
    drawn = 0

    def draw(size: int) -> bytes:
        nonlocal drawn
        drawn += 1
        return hashlib.shake_128(seed + drawn.to_bytes(4)).digest(size)

    return draw


def _talk(a: Association, b: Association, now: Monotonic) -> None:
    """Let two nodes meet."""
    b.greet(now)
    for _ in range(6):
        for speaker, listener in ((b, a), (a, b)):
            for datagram in speaker.outbox:
                with contextlib.suppress(RefusedError):
                    listener.open(*parse(datagram), now)
            speaker.outbox = []
