"""The model bytes that a node holds, by digest (invariant 3), and the one update that it keeps (invariant 5)."""

import hashlib
import re
from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.storage.files import fsync_folder, open_folder, read_if_there, remove_durably, write_atomically
from appliance.words.ids import Digest, Round, digest_of
from appliance.words.messages import UpdateId
from appliance.words.models import Metrics, SampleCount

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SUFFIX = ".safetensors"


class Absent(Struct, frozen=True):
    """Why there is nothing to return.

    Attributes:
        reason: one sentence for the log.
        damaged: whether something was there, failed its check, and was removed; worth a warning.
    """

    reason: str
    damaged: bool = False


class ModelStore:
    """Models as ``<64 hex digits>.safetensors`` in one folder, which is made if it is not there. Raises StateError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        open_folder(folder)

    def put(self, content: bytes) -> Digest:
        """Make a model durable and return its digest. One that is there already is written again only if damaged."""
        digest = digest_of(content)
        if isinstance(self.get(digest), bytes):
            # Its name may be new, and not yet durable: a kill can fall between the replace and the folder's fsync.
            fsync_folder(self._folder)
        else:
            write_atomically(self._path(digest), content)
        return digest

    def get(self, digest: Digest) -> bytes | Absent:
        """Return a model's bytes, checked against the digest; a damaged file is removed and so becomes missing."""
        path = self._path(digest)
        content = read_if_there(path)
        if content is None:
            return Absent(f"{digest} is not in {self._folder}")
        if digest_of(content) == digest:
            return content
        remove_durably(path)
        return Absent(f"{path} did not hold what its name says, and was removed", damaged=True)

    def has(self, digest: Digest) -> bool:
        """Tell whether a file of this digest is there; ``get`` checks what is in it."""
        return self._path(digest).is_file()

    def digests(self) -> frozenset[Digest]:
        """Return the digests of all files that are there."""
        return frozenset(
            "sha256:" + path.stem
            for path in self._folder.glob(f"*{_SUFFIX}")
            if _DIGEST.fullmatch("sha256:" + path.stem)
        )

    def remove(self, digests: Collection[Digest]) -> None:
        """Remove these models; one that is not there is fine."""
        for digest in digests:
            remove_durably(self._path(digest))

    def _path(self, digest: Digest) -> Path:
        """Return the file of a digest. A digest may come from a peer: nothing but 64 hex digits becomes a name."""
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ValueError("not a digest")
        return self._folder / (match[1] + _SUFFIX)


class KeptUpdate(Struct, frozen=True, forbid_unknown_fields=True):
    """A finished update, kept until its round is committed, so that a new leader can be given it again.

    Attributes:
        update_id: 16 random bytes; by it a leader counts the update once (invariant 4).
        round, base: what it was trained for and from.
        samples: how many training samples it stands for.
        metrics: of these weights on this node's held-out data.
        weights: safetensors bytes.
    """

    update_id: UpdateId
    round: Round
    base: Digest
    samples: SampleCount
    metrics: Metrics
    weights: bytes


class UpdateStore:
    """At most one kept update, durable, in a folder of its own, which is made if it is not there.

    The file: a line that names the format, the SHA-256 of the rest, and the record as msgpack. Raises StateError.
    """

    _MAGIC = b"p2pfl-node kept update 1\n"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "update"
        open_folder(folder)

    def put(self, update: KeptUpdate) -> None:
        """Make the update durable in place of the one before it."""
        record = msgspec.msgpack.encode(update)
        write_atomically(self._path, b"".join((self._MAGIC, hashlib.sha256(record).digest(), record)))

    def get(self) -> KeptUpdate | Absent:
        """Return the kept update; a damaged file is removed, and the update must be trained again."""
        content = read_if_there(self._path)
        if content is None:
            return Absent("no update is kept")
        start = len(self._MAGIC) + hashlib.sha256().digest_size
        record = memoryview(content)[start:]
        if content[:start] == self._MAGIC + hashlib.sha256(record).digest():
            try:
                return msgspec.msgpack.decode(record, type=KeptUpdate)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # whole, but of another shape: written by another version of this program
        remove_durably(self._path)
        return Absent(f"{self._path} was damaged or of another version, and was removed", damaged=True)

    def drop(self) -> None:
        """Forget the kept update, durably; none is fine."""
        remove_durably(self._path)
