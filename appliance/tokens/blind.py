"""RSA blind signatures: RSABSSA-SHA384-PSS-Randomized of RFC 9474, section 5.

Signatures are ordinary RSASSA-PSS ones, and the library verifies them. It has no RSA without padding, though, which
blinding needs, so that the numbers are Python's here. ``pow`` takes a time that depends on them: whoever measures the
signer's time learns about a number that the signer has blinded itself with a random factor first, and so nothing about
the key.
"""

import math

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA384, Hash

from appliance.words.errors import RemoteError
from appliance.words.random import RandomBytes

SALT_BYTES = 48
"""Of the salt of PSS: as long as the hash (RFC 9474, section 5)."""

PREFIX_BYTES = 32
"""Of the random prefix that makes a message unguessable (``Prepare``, section 4.1)."""

FACTOR_MARGIN_BYTES = 16
"""A factor is drawn this much longer than the modulus and reduced: even to within 2**-128."""

_HASH = SHA384()
_HASH_BYTES = 48
_PSS = PSS(mgf=MGF1(_HASH), salt_length=SALT_BYTES)


def blind(message: bytes, salt: bytes, factor: bytes, key: RSAPublicKey) -> bytes:
    """Return a prepared message, blinded for the signer (section 4.2).

    Args:
        message: begins with ``PREFIX_BYTES`` random bytes.
        salt: ``SALT_BYTES`` random bytes.
        factor: random bytes, ``FACTOR_MARGIN_BYTES`` longer than the modulus.

    Raises:
        RemoteError: the key's modulus shares a factor with one of these numbers: it is none.
    """
    public = key.public_numbers()
    encoded = int.from_bytes(encode(message, salt, key.key_size - 1), "big")
    if math.gcd(encoded, public.n) != 1:
        raise RemoteError("token: the leader's token key is no RSA key")
    blinded = encoded * pow(_number(factor, public.n), public.e, public.n) % public.n
    return blinded.to_bytes(_size(key), "big")


def finalize(message: bytes, signature: bytes, factor: bytes, key: RSAPublicKey) -> bytes:
    """Return the signature of a prepared message, from the signer's over the blinded one (section 4.4).

    Raises:
        RemoteError: it is not the signer's over what was blinded with this factor.
    """
    n = key.public_numbers().n
    try:
        inverse = pow(_number(factor, n), -1, n)
    except ValueError:
        raise RemoteError("token: the leader's token key is no RSA key") from None
    whole = (int.from_bytes(signature, "big") * inverse % n).to_bytes(_size(key), "big")
    verify(message, whole, key)
    return whole


def sign(blinded: bytes, key: RSAPrivateKey, random: RandomBytes) -> bytes:
    """Return the blind signature over what a member sent (section 4.3).

    Raises:
        RemoteError: it is no number that blinding can give.
    """
    n, e = key.public_key().public_numbers().n, key.public_key().public_numbers().e
    number = int.from_bytes(blinded, "big")
    if len(blinded) != _size(key) or not 1 < number < n - 1 or math.gcd(number, n) != 1:
        raise RemoteError("token: what is to be signed is no blinded message")
    factor = _number(random(_size(key) + FACTOR_MARGIN_BYTES), n)
    signature = _power(number * pow(factor, e, n) % n, key) * pow(factor, -1, n) % n
    # A fault in the machine would give the key away (RFC 9474, section 4.3, step 4).
    if pow(signature, e, n) != number:
        raise ArithmeticError("a blind signature does not verify: this machine calculates wrongly")
    return signature.to_bytes(_size(key), "big")


def verify(message: bytes, signature: bytes, key: RSAPublicKey) -> None:
    """Raise RemoteError unless this is the key's signature of a prepared message (section 4.5)."""
    try:
        key.verify(signature, message, _PSS, _HASH)
    except InvalidSignature:
        raise RemoteError("token: its signature is not the leader's of this round") from None


def encode(message: bytes, salt: bytes, bits: int) -> bytes:
    """Return EMSA-PSS-ENCODE (RFC 8017, section 9.1.1) of a message, for a modulus of ``bits`` + 1 bits."""
    size = -(-bits // 8)
    digest = _sha384(bytes(8) + _sha384(message) + salt)
    block = bytes(size - SALT_BYTES - _HASH_BYTES - 2) + b"\x01" + salt
    masked = bytes(a ^ b for a, b in zip(block, _mask(digest, len(block)), strict=True))
    unused = 8 * size - bits
    return bytes([masked[0] & 0xFF >> unused]) + masked[1:] + digest + b"\xbc"


def _mask(seed: bytes, length: int) -> bytes:
    """Return MGF1 (RFC 8017, appendix B.2.1)."""
    blocks = -(-length // _HASH_BYTES)
    return b"".join(_sha384(seed + count.to_bytes(4, "big")) for count in range(blocks))[:length]


def _sha384(content: bytes) -> bytes:
    state = Hash(_HASH)
    state.update(content)
    return state.finalize()


def _number(factor: bytes, n: int) -> int:
    """Return a number of 1 to n - 1."""
    return int.from_bytes(factor, "big") % (n - 1) + 1


def _size(key: RSAPublicKey | RSAPrivateKey) -> int:
    return -(-key.key_size // 8)


def _power(number: int, key: RSAPrivateKey) -> int:
    """Return the number to the private exponent, by the Chinese remainder theorem (RFC 8017, section 5.2.1)."""
    p, q, dp, dq, inverse = _parts(key)
    low = pow(number % q, dq, q)
    return low + q * ((pow(number % p, dp, p) - low) * inverse % p)


def _parts(key: RSAPrivateKey) -> tuple[int, int, int, int, int]:
    numbers = key.private_numbers()
    return numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp
