"""The leader's side: one token for each member, in one round."""

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from appliance.tokens import blind
from appliance.tokens.token import Token, message_of
from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName
from appliance.words.random import RandomBytes


class Mint:
    """Signs and checks the tokens of one round of one term, with a key of its own.

    A blind signature can't bind what it does not see, so the key stands for the round: a token that was signed in
    another round, and saved up, is none in this one.
    """

    def __init__(self, key: RSAPrivateKey, random: RandomBytes) -> None:
        self._key = key
        self._public_key = key.public_key()
        self._random = random
        self._signed: dict[NodeName, tuple[bytes, bytes]] = {}

    def sign(self, member: NodeName, blinded: bytes) -> bytes:
        """Return the signature for a member; the same one if it asks again, since an answer may have been lost.

        Raises:
            RemoteError: it asks for a second token.
        """
        known, signature = self._signed.get(member, (None, b""))
        if known is None:
            signature = blind.sign(blinded, self._key, self._random)
            self._signed[member] = blinded, signature
        elif known != blinded:
            raise RemoteError(f"token: {member} has had its token of this round, and wants another")
        return signature

    def check(self, token: Token) -> bytes:
        """Return what identifies a token in this round. Raises RemoteError if it is none of this round."""
        blind.verify(message_of(token.nonce), token.signature, self._public_key)
        return token.nonce
