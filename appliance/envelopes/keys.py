"""Keys of envelopes: RSA, or RSA and ML-KEM-768 together; their ids, and public keys as peers send them.

A public key is one string of bytes: DER (SubjectPublicKeyInfo) of the RSA key, and in the hybrid suite after it the
1184 bytes of the ML-KEM key (FIPS 203). The DER says itself where it ends.
"""

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from appliance.words.errors import RemoteError

Suite = Literal["rsa", "rsa+mlkem768"]
"""What wraps content keys: the setting ``envelopes.seal``, the same in the whole cluster."""

RSA_SIZES = (2048, 3072, 4096)
ROUND_KEY_BYTES = 32
REPLY_SECRET_BYTES = 32
_PUBLIC_EXPONENT = 65537
_ROUND_KEY_ID_LABEL = b"p2pfl-node/round-key-id/1\x00"
_DER_HEAD = 4
"""SEQUENCE, and a length of two bytes: that of each key from RSA-2048 to RSA-4096."""


@dataclass(frozen=True)
class RecipientKey:
    """A public key to seal to.

    Attributes:
        secret: what both sides know besides, and opening takes too (of reply keys); empty if there is none.
    """

    rsa: RSAPublicKey
    kem: MLKEM768PublicKey | None = None
    secret: bytes = field(default=b"", repr=False)

    @cached_property
    def encoding(self) -> bytes:
        """The key as peers send it."""
        return public_der(self.rsa) + (b"" if self.kem is None else self.kem.public_bytes_raw())

    @cached_property
    def id(self) -> bytes:
        """The key's id: 32 bytes, SHA-256 of its encoding."""
        return key_id_of(self.encoding)


@dataclass(frozen=True)
class PrivateKey:
    """A private key to open with; ``secret`` as its public half has it."""

    rsa: RSAPrivateKey
    kem: MLKEM768PrivateKey | None = None
    secret: bytes = field(default=b"", repr=False)

    @cached_property
    def recipient(self) -> RecipientKey:
        """Its public half."""
        return RecipientKey(self.rsa.public_key(), None if self.kem is None else self.kem.public_key(), self.secret)


def private_key(rsa: RSAPrivateKey, suite: Suite, secret: bytes = b"") -> PrivateKey:
    """Return a key of a suite around an RSA key, and perhaps a secret, that are fresh."""
    return PrivateKey(rsa, MLKEM768PrivateKey.generate() if suite == "rsa+mlkem768" else None, secret)


def public_der(key: RSAPrivateKey | RSAPublicKey) -> bytes:
    """Return the public half of an RSA key as DER, SubjectPublicKeyInfo."""
    public = key.public_key() if isinstance(key, RSAPrivateKey) else key
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_recipient(encoding: bytes, suite: Suite, secret: bytes = b"") -> RecipientKey:
    """Parse a peer's public key. ``secret`` came with it, if it is a reply key.

    Raises:
        RemoteError: it is none, or not of the cluster's suite: a leader must not talk anybody into a weaker one.
    """
    end = _DER_HEAD + int.from_bytes(encoding[2:_DER_HEAD], "big")
    der, rest = encoding[:end], encoding[end:]
    if bool(rest) != (suite == "rsa+mlkem768"):
        raise RemoteError(f"public key: is not of the kind {suite} that this cluster uses")
    try:
        return RecipientKey(load_public(der), MLKEM768PublicKey.from_public_bytes(rest) if rest else None, secret)
    except ValueError:
        raise RemoteError("public key: its ML-KEM part is none") from None


def load_public(der: bytes) -> RSAPublicKey:
    """Parse a peer's RSA key.

    Raises:
        RemoteError: not the DER of an RSA key of 2048, 3072 or 4096 bits with exponent 65537 (a peer's odd exponent
            could make every seal to it slow).
    """
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise RemoteError("public key: is not one in DER") from None
    if not isinstance(key, RSAPublicKey) or key.key_size not in RSA_SIZES:
        raise RemoteError("public key: is not RSA of 2048, 3072 or 4096 bits")
    numbers = key.public_numbers()
    if numbers.e != _PUBLIC_EXPONENT:
        raise RemoteError("public key: its exponent is not 65537")
    if numbers.n % 2 == 0:  # the library loads it, and can't encrypt to it
        raise RemoteError("public key: its modulus is even")
    return key


def key_id_of(encoding: bytes) -> bytes:
    """Return the id of a public key: 32 bytes, SHA-256 of its encoding."""
    return hashlib.sha256(encoding).digest()


def round_key_id(key: bytes) -> bytes:
    """Return the id of a round key: 32 bytes, SHA-256 of a label and the key, which they don't reveal."""
    return hashlib.sha256(_ROUND_KEY_ID_LABEL + key).digest()
