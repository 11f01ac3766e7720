"""The plain values that the whole product speaks of: names, terms, rounds, digests and monotonic time."""

import hashlib
from typing import Annotated, NewType

from msgspec import Meta

NodeName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")]
"""A node's name: the DNS name in its certificate."""

Term = Annotated[int, Meta(ge=0, lt=2**62)]
Round = Annotated[int, Meta(ge=0, lt=2**62)]
Version = Annotated[int, Meta(ge=0, lt=2**62)]

Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
"""SHA-256 of a model's safetensors bytes, as ``sha256:<64 hex digits>``."""

Identifier = Annotated[bytes, Meta(min_length=16, max_length=32)]
"""A random or hashed identifier: a key's id (32 bytes, SHA-256 of its DER) or an update's id (16 random bytes)."""

Monotonic = NewType("Monotonic", float)
"""Seconds on the monotonic clock of one process (design.md, invariant 10); never comparable to wall time."""


def digest_of(content: bytes | bytearray | memoryview) -> Digest:
    """Return the digest of a model's bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def short(digest: Digest) -> str:
    """Return a digest's first hex digits, for people."""
    return digest.removeprefix("sha256:")[:12]
