"""The checkpoint of the training under way: at most one, durable, so that a restart loses some minutes at most."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from appliance.storage.checked import Absent, read_checked, write_checked
from appliance.storage.files import open_folder, remove_durably
from appliance.words.ids import Digest, Round

_MAGIC = b"p2pfl-node checkpoint 1\n"
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


_header_decoder = msgspec.msgpack.Decoder(CheckpointHeader)


class Checkpoint(Struct, frozen=True):
    """A header, and the safetensors bytes that belong to it."""

    header: CheckpointHeader
    tensors: bytes | memoryview


class CheckpointStore:
    """A file in a folder of its own, which is made if it is not there. Raises StateError.

    The file (``checked``): the header's length, 4 bytes little-endian, and the header as msgpack; the tensors.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "checkpoint"
        open_folder(folder)

    def put(self, checkpoint: Checkpoint) -> None:
        """Make a checkpoint durable in place of the one before it; its tensors are not copied."""
        header = msgspec.msgpack.encode(checkpoint.header)
        start = len(header).to_bytes(_LENGTH_BYTES, "little") + header
        write_checked(self._path, _MAGIC, start, checkpoint.tensors)

    def get(self) -> Checkpoint | Absent:
        """Return the checkpoint; a damaged file is removed, and the training begins anew."""
        return read_checked(self._path, _MAGIC, _decode) or Absent("there is no checkpoint")

    def drop(self) -> None:
        """Forget the checkpoint, durably; none is fine."""
        remove_durably(self._path)


def _decode(content: memoryview) -> Checkpoint:
    end = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    return Checkpoint(_header_decoder.decode(content[_LENGTH_BYTES:end]), content[end:])
