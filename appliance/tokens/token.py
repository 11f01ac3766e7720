"""What a token is."""

from msgspec import Struct

NONCE_BYTES = 32
_LABEL = b"p2pfl-node/token/1"


class Token(Struct, frozen=True):
    """A nonce of a member's choice, and the leader's signature, which it gave without seeing either.

    Attributes:
        nonce: 32 bytes; the random prefix of the prepared message (RFC 9474, section 4.1).
        signature: RSASSA-PSS, as long as the token key's modulus.
    """

    nonce: bytes
    signature: bytes


def message_of(nonce: bytes) -> bytes:
    """Return the prepared message that is signed for a nonce."""
    return nonce + _LABEL
