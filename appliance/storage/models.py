"""What a node holds: models by digest (invariant 3), the one update that it keeps (invariant 5), and its residual."""

import re
import threading
from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.storage.checked import Absent, read_checked, write_checked
from appliance.storage.files import (
    fsync_folder,
    open_folder,
    read_if_there,
    remove_durably,
    replace_durably,
    write_atomically,
)
from appliance.words.errors import ApplianceError
from appliance.words.ids import Digest, Round, Term, digest_of
from appliance.words.messages import UpdateId
from appliance.words.models import Metrics, SampleCount
from appliance.words.parts import encode_parts

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SUFFIX = ".safetensors"


class ModelStore:
    """Models as ``<64 hex digits>.safetensors`` in one folder, which is made if it is not there. Raises StateError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._doomed: set[Digest] = set()
        self._lock = threading.Lock()
        open_folder(folder)

    def put(self, content: bytes | memoryview) -> Digest:
        """Make a model durable and return its digest. One that is there already is written again only if damaged."""
        digest = digest_of(content)
        with self._lock:
            self._doomed.discard(digest)
        if isinstance(self.get(digest), bytes):
            # Its name may be new, and not yet durable: a kill can fall between the replace and the folder's fsync.
            fsync_folder(self._folder)
        else:
            write_atomically(self._path(digest), (content,))
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

    def need(self, digest: Digest, what: str) -> bytes:
        """Return a model's bytes, as ``get``. Raises ApplianceError if they are not here, saying ``what`` it is."""
        content = self.get(digest)
        if isinstance(content, Absent):
            raise ApplianceError(f"{what} is not here: {content.reason}")
        return content

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

    def doom(self, digests: Collection[Digest]) -> None:
        """Have ``sweep`` remove these models, but not what is ``put`` again before: it may be a candidate once more."""
        with self._lock:
            self._doomed |= set(digests)

    def sweep(self) -> None:
        """Remove what is doomed, durably; one that is not there is fine."""
        while True:
            with self._lock:
                if not self._doomed:
                    return
                remove_durably(self._path(self._doomed.pop()))

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
    weights: memoryview


_update_decoder = msgspec.msgpack.Decoder(KeptUpdate)


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
        write_checked(self._path, self._MAGIC, *encode_parts(update))

    def get(self) -> KeptUpdate | Absent:
        """Return the kept update; a damaged file is removed, and the update must be trained again."""
        return read_checked(self._path, self._MAGIC, _update_decoder.decode) or Absent("no update is kept")

    def drop(self) -> None:
        """Forget the kept update, durably; none is fine."""
        remove_durably(self._path)


class Residual(Struct, frozen=True, forbid_unknown_fields=True):
    """What encoding lost of an update (``appliance.aggregation.encoding``), and of all before it.

    Attributes:
        update_id: of that update.
        term: of the leader that accepted it.
        weights: safetensors bytes, float32, of the model's layout.
    """

    update_id: UpdateId
    term: Term
    weights: memoryview


_residual_decoder = msgspec.msgpack.Decoder(Residual)


class ResidualStore:
    """The residual of the last update that counted, and beside it that of an update which may yet count. Durable.

    Files as of an ``UpdateStore``, in the same folder, which is made if it is not there. Raises StateError.
    """

    _MAGIC = b"p2pfl-node residual 1\n"

    def __init__(self, folder: Path) -> None:
        self._path, self._next = folder / "residual", folder / "residual.next"
        open_folder(folder)

    def get(self) -> Residual | Absent:
        """Return the residual of the last update that counted; a damaged file is removed, and there is none then."""
        return read_checked(self._path, self._MAGIC, _residual_decoder.decode) or Absent("no residual is kept")

    def put_next(self, residual: Residual) -> None:
        """Make durable what ``settle`` may put in the other's place; the former of these is given up."""
        write_checked(self._next, self._MAGIC, *encode_parts(residual))

    def settle(self, update_id: bytes, term: Term | None) -> Absent | None:
        """An update's round is committed, by the leader of ``term``: take its residual if that leader had accepted it.

        Else what is beside is given up: the update did not count, or nobody can tell. Doing it twice changes nothing.
        Returns why there was nothing to take, if that was damaged.
        """
        found = read_checked(self._next, self._MAGIC, _residual_decoder.decode)
        if found is None or isinstance(found, Absent):
            return found
        if (found.update_id, found.term) == (update_id, term):
            replace_durably(self._next, self._path)
        else:
            remove_durably(self._next)
        return None

    def drop(self) -> None:
        """Forget the residual, durably; none is fine."""
        remove_durably(self._path)
