"""RSA blind signatures, against the vectors of RFC 9474 and against the library."""

import hashlib
import json
import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from appliance.tokens import blind
from appliance.words.errors import RemoteError

VECTORS = Path(__file__).parents[2] / "vectors" / "blind_rsa.json"
KEY = rsa.generate_private_key(65537, 2048)
PUBLIC = KEY.public_key()
MESSAGE, SALT = b"m" * 40, b"s" * blind.SALT_BYTES
FACTOR = bytes(range(256)) + b"f" * blind.FACTOR_MARGIN_BYTES


def _vector() -> dict[str, str]:
    vector: dict[str, str] = json.loads(VECTORS.read_text())
    return vector


def _key_of(vector: dict[str, str]) -> rsa.RSAPrivateKey:
    p, q, e = (int(vector[name], 16) for name in "pqe")
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key()


def test_the_vector_of_the_rfc() -> None:
    vector = _vector()
    key = _key_of(vector)
    n, size = key.public_key().public_numbers().n, 512
    message, salt = bytes.fromhex(vector["prepared_message"]), bytes.fromhex(vector["salt"])
    # The factor whose inverse the RFC gives; a factor's bytes are reduced to 1 to n - 1.
    factor = (pow(int(vector["inverse"], 16), -1, n) - 1).to_bytes(size + blind.FACTOR_MARGIN_BYTES, "big")
    blinded = blind.blind(message, salt, factor, key.public_key())
    assert blinded.hex() == vector["blinded_message"]
    signature = blind.sign(blinded, key, secrets.token_bytes)
    assert signature.hex() == vector["blind_signature"]
    assert blind.finalize(message, signature, factor, key.public_key()).hex() == vector["signature"]


def test_a_signature_is_one_of_rsassa_pss_for_every_size_of_key() -> None:
    for bits in (2048, 2049, 2055, 3072):  # also where the encoded message is a byte shorter than the modulus
        key = rsa.generate_private_key(65537, bits)
        factor = secrets.token_bytes(-(-bits // 8) + blind.FACTOR_MARGIN_BYTES)
        blinded = blind.blind(MESSAGE, SALT, factor, key.public_key())
        signature = blind.sign(blinded, key, secrets.token_bytes)
        blind.verify(MESSAGE, blind.finalize(MESSAGE, signature, factor, key.public_key()), key.public_key())


def test_another_answer_is_refused() -> None:
    blinded = blind.blind(MESSAGE, SALT, FACTOR, PUBLIC)
    signature = blind.sign(blinded, KEY, secrets.token_bytes)
    wrong = bytes([signature[0] ^ 1]) + signature[1:]
    for answer in (wrong, bytes(256), b"\xff" * 256):
        with pytest.raises(RemoteError, match="not the leader's of this round"):
            blind.finalize(MESSAGE, answer, FACTOR, PUBLIC)


@pytest.mark.parametrize("number", [0, 1, PUBLIC.public_numbers().n - 1, PUBLIC.public_numbers().n, 2**2048 - 1])
def test_what_blinding_can_t_give_is_not_signed(number: int) -> None:
    with pytest.raises(RemoteError, match="no blinded message"):
        blind.sign(number.to_bytes(256, "big"), KEY, secrets.token_bytes)


def test_nor_what_is_of_another_length_or_a_factor_of_the_modulus() -> None:
    for blinded in (b"", bytes(255), b"\x02" * 257, (3 * KEY.private_numbers().p).to_bytes(256, "big")):
        with pytest.raises(RemoteError, match="no blinded message"):
            blind.sign(blinded, KEY, secrets.token_bytes)


def test_any_token_could_be_any_member_s() -> None:
    """What the signer sees and the token are linked by a factor that exists for each pair, so they prove no link."""
    public = PUBLIC.public_numbers()
    seen, tokens = [], []
    for member in range(4):
        factor = hashlib.shake_256(bytes([member])).digest(256 + blind.FACTOR_MARGIN_BYTES)
        message = bytes([member]) * 40
        seen.append(blind.blind(message, SALT, factor, PUBLIC))
        tokens.append((message, int.from_bytes(blind.encode(message, SALT, 2047), "big")))
    for blinded in seen:
        for _, encoded in tokens:
            # blinded = encoded * r^e: r is the e-th root of their quotient, and every number has one.
            quotient = int.from_bytes(blinded, "big") * pow(encoded, -1, public.n) % public.n
            r = pow(quotient, KEY.private_numbers().d, public.n)
            assert encoded * pow(r, public.e, public.n) % public.n == int.from_bytes(blinded, "big")
