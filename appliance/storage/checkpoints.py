"""The checkpoint of the training under way: at most one, durable, so that a restart loses some minutes at most."""

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from appliance.storage.files import open_folder, read_if_there, remove_durably, write_atomically
from appliance.storage.models import Absent
from appliance.words.ids import Digest, Round

_MAGIC = b"p2pfl-node checkpoint 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size
_LENGTH_BYTES = 4

Count = Annotated[int, Meta(ge=0, lt=2**62)]


class TrainingId(Struct, frozen=True, forbid_unknown_fields=True):
    """All that a training's result depends on: two with the same id end with the same bytes.

    Attributes:
        round, base: what is trained for and from.
        origin: stands for the settings and the shard.
    """

    round: Round
    base: Digest
    origin: Digest


class CheckpointHeader(Struct, frozen=True, forbid_unknown_fields=True):
    """Which training it is, and how far it had come.

    Attributes:
        epoch: the one under way, from 0.
        batches: mini-batches of it that are done.
    """

    training: TrainingId
    epoch: Count
    batches: Count


class Checkpoint(Struct, frozen=True):
    """A header, and the safetensors bytes that belong to it."""

    header: CheckpointHeader
    tensors: bytes | memoryview


class CheckpointStore:
    """A file in a folder of its own, which is made if it is not there. Raises StateError.

    The file: a line that names the format; the SHA-256 of the rest; the header's length, 4 bytes little-endian, and the
    header as msgpack; the tensors.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "checkpoint"
        open_folder(folder)

    def put(self, checkpoint: Checkpoint) -> None:
        """Make a checkpoint durable in place of the one before it; its tensors are not copied."""
        header = msgspec.msgpack.encode(checkpoint.header)
        start = len(header).to_bytes(_LENGTH_BYTES, "little") + header
        digest = hashlib.sha256(start)
        digest.update(checkpoint.tensors)
        write_atomically(self._path, (_MAGIC, digest.digest(), start, checkpoint.tensors))

    def get(self) -> Checkpoint | Absent:
        """Return the checkpoint; a damaged file is removed, and the training begins anew."""
        content = read_if_there(self._path)
        if content is None:
            return Absent("there is no checkpoint")
        start = len(_MAGIC) + _DIGEST_BYTES
        rest = memoryview(content)[start:]
        if content[:start] == _MAGIC + hashlib.sha256(rest).digest():
            end = _LENGTH_BYTES + int.from_bytes(rest[:_LENGTH_BYTES], "little")
            try:
                return Checkpoint(msgspec.msgpack.decode(rest[_LENGTH_BYTES:end], type=CheckpointHeader), rest[end:])
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                pass  # whole, but of another shape: written by another version of this program
        self.drop()
        return Absent(f"{self._path} was damaged or of another version, and was removed", damaged=True)

    def drop(self) -> None:
        """Forget the checkpoint, durably; none is fine."""
        remove_durably(self._path)
