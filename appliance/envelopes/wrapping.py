"""The content key of an envelope, wrapped to its recipient: by RSA-OAEP, or by RSA-OAEP and ML-KEM-768 together.

In the hybrid suite the content key comes from two secrets, one of each kind (HKDF over both, bound to the recipient and
to what was sent): whoever breaks one of the two, with a quantum computer or with a flaw in the younger of them, still
lacks the other.
"""

import hashlib
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from appliance.envelopes.format import KEM_BYTES
from appliance.envelopes.keys import PrivateKey, RecipientKey
from appliance.words.errors import RemoteError

CONTENT_KEY_BYTES = 32
OAEP_LABEL = b"p2pfl-node/content-key/1"
HYBRID_LABEL = b"p2pfl-node/hybrid-key/1\x00"
_OAEP = OAEP(mgf=MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=OAEP_LABEL)


def wrap(recipient: RecipientKey) -> tuple[bytes, bytes]:
    """Return a fresh content key, and what lets the recipient alone have it too."""
    secret = os.urandom(CONTENT_KEY_BYTES)
    wrapped = recipient.rsa.encrypt(secret, _OAEP)
    if recipient.kem is None:
        return secret, wrapped
    shared, sent = recipient.kem.encapsulate()
    return _both(secret, shared, recipient, wrapped + sent), wrapped + sent


def unwrap(wrapped: bytes, key: PrivateKey) -> bytes:
    """Return the content key.

    Raises:
        RemoteError: it is wrapped in another suite than this key's, or is not authentic.
    """
    size = len(wrapped) - (0 if key.kem is None else KEM_BYTES)
    if size != key.rsa.key_size // 8:
        raise RemoteError("envelope: its wrapped key has not the length of this key's")
    try:
        secret = key.rsa.decrypt(wrapped[:size], _OAEP)
    except ValueError:
        raise RemoteError("envelope: its wrapped key is not authentic") from None
    if len(secret) != CONTENT_KEY_BYTES:
        raise RemoteError("envelope: its content key has a wrong length")
    if key.kem is None:
        return secret
    # ML-KEM refuses no ciphertext of this length: a changed one gives another secret, and then no chunk is authentic.
    return _both(secret, key.kem.decapsulate(wrapped[size:]), key.recipient, wrapped)


def _both(secret: bytes, shared: bytes, recipient: RecipientKey, wrapped: bytes) -> bytes:
    """Return the content key that takes both secrets to know."""
    info = HYBRID_LABEL + hashlib.sha256(recipient.encoding + wrapped).digest()
    return HKDF(algorithm=hashes.SHA256(), length=CONTENT_KEY_BYTES, salt=None, info=info).derive(secret + shared)
