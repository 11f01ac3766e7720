"""The content key of an envelope, wrapped to its recipient: by RSA-OAEP, or by RSA-OAEP and ML-KEM-768 together.

In the hybrid suite the content key comes from two secrets, one of each kind (HKDF over both, bound to the recipient and
to what was sent): whoever breaks one of the two, with a quantum computer or with a flaw in the younger of them, still
lacks the other.

In the same way an answer's content key comes from what is wrapped and from the secret that the recipient sent, sealed,
with its reply key: reading an answer takes a broken reply key and a broken key of the leader's.
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
REPLY_LABEL = b"p2pfl-node/reply-key/1\x00"
_OAEP = OAEP(mgf=MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=OAEP_LABEL)


def wrap(recipient: RecipientKey) -> tuple[bytes, bytes]:
    """Return a fresh content key, and what lets the recipient alone have it too."""
    secret, shared = os.urandom(CONTENT_KEY_BYTES), b""
    wrapped = recipient.rsa.encrypt(secret, _OAEP)
    if recipient.kem is not None:
        shared, sent = recipient.kem.encapsulate()
        wrapped += sent
    return _content_key(secret, shared, recipient, wrapped), wrapped


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
    # ML-KEM refuses no ciphertext of this length: a changed one gives another secret, and then no chunk is authentic.
    shared = b"" if key.kem is None else key.kem.decapsulate(wrapped[size:])
    return _content_key(secret, shared, key.recipient, wrapped)


def _content_key(secret: bytes, shared: bytes, recipient: RecipientKey, wrapped: bytes) -> bytes:
    """Return the content key: it takes all secrets that there are to know it, each with those before it."""
    sent = hashlib.sha256(recipient.encoding + wrapped).digest()
    for label, other in ((HYBRID_LABEL, shared), (REPLY_LABEL, recipient.secret)):
        if other:
            derive = HKDF(algorithm=hashes.SHA256(), length=CONTENT_KEY_BYTES, salt=None, info=label + sent).derive
            secret = derive(secret + other)
    return secret
