"""A member's side: asks for the token of a round, and unblinds it.

All that is random in a token comes from a seed that never leaves the node, and from the round's token key: HKDF gives
the nonce, the salt and the blinding factor. So a node that starts again in the middle of a round asks with the same
blinded message, gets the same signature, and has its token back, though it wrote nothing down. To the leader the three
are as good as random: it does not know the seed, and no two token keys give the same values.
"""

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from appliance.tokens import blind
from appliance.tokens.token import NONCE_BYTES, Token, message_of

SEED_BYTES = 32
_LABEL = b"p2pfl-node/token-secrets/1\x00"


class _Secrets(Struct, frozen=True):
    nonce: bytes
    salt: bytes
    factor: bytes


class Wallet:
    """Makes the tokens of one node.

    Args:
        seed: 32 random bytes, the same at each start of the node.
    """

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes")
        self._seed = seed

    def ask(self, key: RSAPublicKey, key_id: bytes) -> bytes:
        """Return the blinded message that the leader is to sign with a round's token key.

        Raises:
            RemoteError: the key is none.
        """
        secrets = self._secrets(key, key_id)
        return blind.blind(message_of(secrets.nonce), secrets.salt, secrets.factor, key)

    def take(self, key: RSAPublicKey, key_id: bytes, signature: bytes) -> Token:
        """Return the token, from the leader's answer.

        Raises:
            RemoteError: the answer is not the leader's signature over what ``ask`` gave.
        """
        secrets = self._secrets(key, key_id)
        whole = blind.finalize(message_of(secrets.nonce), signature, secrets.factor, key)
        return Token(secrets.nonce, whole)

    def _secrets(self, key: RSAPublicKey, key_id: bytes) -> _Secrets:
        factor_bytes = key.key_size // 8 + blind.FACTOR_MARGIN_BYTES
        length = NONCE_BYTES + blind.SALT_BYTES + factor_bytes
        derived = HKDF(algorithm=SHA256(), length=length, salt=None, info=_LABEL + key_id).derive(self._seed)
        salt_at, factor_at = NONCE_BYTES, NONCE_BYTES + blind.SALT_BYTES
        return _Secrets(derived[:salt_at], derived[salt_at:factor_at], derived[factor_at:])
