"""What it takes to run upstream raftos 0.2.6, unchanged, on a Python that is ten years newer than it."""

import asyncio
import importlib.util
import sys
import types
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.fernet import InvalidToken

from appliance.datagrams.sealing import SECRET_SIZE
from appliance.storage.guarded import read_guarded
from appliance.words.errors import OperatorError
from appliance.words.settings import Consensus


def require() -> None:
    """Raise OperatorError, which says what to install, if the package is not there."""
    if importlib.util.find_spec("raftos") is None:
        raise OperatorError(
            'consensus.engine is "raftos", which is not installed: pip install --no-deps raftos==0.2.6, '
            "or remove the key, as it is unsafe (docs/consensus.md)"
        )


def read_secret(settings: Consensus) -> bytes:
    """Read the secret that upstream's cipher wants. Raises OperatorError, in one sentence, if it can't be used."""
    path = settings.raftos_secret
    if path is None:
        raise OperatorError("consensus.raftos_secret is missing; it names a file of 32 random bytes")
    secret = read_guarded(path)
    if len(secret) != SECRET_SIZE:
        raise OperatorError(
            f"{path}: has {len(secret)} bytes, and consensus.raftos_secret must have {SECRET_SIZE}; "
            "copy the file from another node"
        )
    return secret


def load() -> Any:
    """Import the package. Raises OperatorError as ``require`` does.

    It imports msgpack, which only its own serializer calls; asyncio.Queue has had no ``loop`` since Python 3.10, and
    asyncio.futures no InvalidStateError since 3.8.
    """
    require()
    sys.modules.setdefault("msgpack", types.ModuleType("msgpack"))
    import raftos  # noqa: PLC0415 - only where it is chosen

    def queue(loop: asyncio.AbstractEventLoop) -> asyncio.Queue[Any]:  # noqa: ARG001 - upstream passes it by name
        return asyncio.Queue()

    older = types.SimpleNamespace(**{**vars(asyncio), "Queue": queue, "futures": asyncio.exceptions})
    raftos.server.asyncio = raftos.state.asyncio = older
    return raftos


class JsonSerializer:
    """For its log and datagrams. A line of JSON holds no newline, by which its log tells entries apart."""

    @staticmethod
    def pack(data: object) -> bytes:
        return msgspec.json.encode(data)

    @staticmethod
    def unpack(data: bytes) -> Any:
        return msgspec.json.decode(data)


@dataclass(frozen=True, slots=True)
class TolerantCryptor:
    """Its own cryptor; what can't be opened becomes an empty message, where upstream raises into the event loop."""

    upstream: Any

    def encrypt(self, data: bytes) -> bytes:
        return bytes(self.upstream.encrypt(data))

    def decrypt(self, data: bytes) -> bytes:
        try:
            return bytes(self.upstream.decrypt(data))
        except InvalidToken:
            return b"{}"
