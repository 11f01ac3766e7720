"""Keys of envelopes: their ids, and public keys as peers send them (DER, SubjectPublicKeyInfo)."""

import hashlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from appliance.words.errors import RemoteError

RSA_SIZES = (2048, 3072, 4096)
ROUND_KEY_BYTES = 32
_PUBLIC_EXPONENT = 65537
_ROUND_KEY_ID_LABEL = b"p2pfl-node/round-key-id/1\x00"


def public_der(key: RSAPrivateKey | RSAPublicKey) -> bytes:
    """Return the public half of a key as DER, SubjectPublicKeyInfo."""
    public = key.public_key() if isinstance(key, RSAPrivateKey) else key
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_public(der: bytes) -> RSAPublicKey:
    """Parse a peer's public key.

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
    if key.public_numbers().e != _PUBLIC_EXPONENT:
        raise RemoteError("public key: its exponent is not 65537")
    return key


def key_id_of(der: bytes) -> bytes:
    """Return the id of a public key: 32 bytes, SHA-256 of its DER."""
    return hashlib.sha256(der).digest()


def round_key_id(key: bytes) -> bytes:
    """Return the id of a round key: 32 bytes, SHA-256 of a label and the key, which they don't reveal."""
    return hashlib.sha256(_ROUND_KEY_ID_LABEL + key).digest()
