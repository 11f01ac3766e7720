"""Mint and wallet: one token for each member, the same after a restart, and good in its round only."""

import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from appliance.tokens.mint import Mint
from appliance.tokens.token import Token
from appliance.tokens.wallet import SEED_BYTES, Wallet
from appliance.words.errors import RemoteError

KEY, OTHER_KEY = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 2048)
PUBLIC = KEY.public_key()
ID = b"k" * 32


def _token(mint: Mint, wallet: Wallet, member: str) -> Token:
    return wallet.take(PUBLIC, ID, mint.sign(member, wallet.ask(PUBLIC, ID)))


def test_a_member_gets_one_token_that_counts() -> None:
    mint, wallet = Mint(KEY, secrets.token_bytes), Wallet(secrets.token_bytes(SEED_BYTES))
    token = _token(mint, wallet, "node1")
    assert mint.check(token) == token.nonce


def test_a_lost_answer_comes_again_and_a_second_token_does_not() -> None:
    mint, wallet = Mint(KEY, secrets.token_bytes), Wallet(secrets.token_bytes(SEED_BYTES))
    assert _token(mint, wallet, "node1") == _token(mint, wallet, "node1")
    greedy = Wallet(secrets.token_bytes(SEED_BYTES))
    with pytest.raises(RemoteError, match="node1 has had its token"):
        mint.sign("node1", greedy.ask(PUBLIC, ID))
    _token(mint, greedy, "node2")


def test_a_node_that_starts_again_has_the_same_token() -> None:
    mint, seed = Mint(KEY, secrets.token_bytes), secrets.token_bytes(SEED_BYTES)
    assert _token(mint, Wallet(seed), "node1") == _token(mint, Wallet(seed), "node1")


def test_another_round_s_token_is_none() -> None:
    wallet = Wallet(secrets.token_bytes(SEED_BYTES))
    token = _token(Mint(KEY, secrets.token_bytes), wallet, "node1")
    later = Mint(OTHER_KEY, secrets.token_bytes)
    for wrong in (token, Token(token.nonce, bytes(256)), Token(token.nonce, b""), Token(bytes(32), token.signature)):
        with pytest.raises(RemoteError, match="not the leader's of this round"):
            later.check(wrong)


def test_no_two_rounds_and_no_two_nodes_ask_alike() -> None:
    first, second = Wallet(b"1" * SEED_BYTES), Wallet(b"2" * SEED_BYTES)
    asked = {first.ask(PUBLIC, ID), first.ask(PUBLIC, b"l" * 32), second.ask(PUBLIC, ID)}
    assert len(asked) == 3


def test_a_seed_of_a_wrong_length_is_the_caller_s_mistake() -> None:
    with pytest.raises(ValueError, match="a seed has 32 bytes"):
        Wallet(b"short")
