"""Revocation lists: made, read, refused; and what TLS and statements make of them."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from appliance.pki.authority import Authority, certificate_pem, key_pem, new_key
from appliance.pki.identity import NodeIdentity
from appliance.pki.registry import Registry
from appliance.pki.revocations import NOTHING_REVOKED, parse_list, revoke
from appliance.pki.statements import StatementVerifier
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.messages import Announcement, Signed, encode
from tests.unit.pki.identities import write_identity

AUTHORITY, OTHER = Authority.create("c"), Authority.create("c")
LIST = revoke(AUTHORITY, [7, 2**150])


def test_a_list_comes_back_from_both_of_its_forms() -> None:
    for content in (LIST.der, LIST.pem):
        assert parse_list(content, AUTHORITY.certificate) == LIST
    assert (LIST.number, set(LIST.serials)) == (1, {7, 2**150})


def test_a_later_list_has_all_of_the_former_and_a_higher_number() -> None:
    later = revoke(AUTHORITY, [9], LIST)
    assert (later.number, set(later.serials)) == (2, {7, 9, 2**150})


def test_another_authoritys_list_is_refused() -> None:
    with pytest.raises(RemoteError, match="not signed by this cluster's authority"):
        parse_list(LIST.der, OTHER.certificate)


@given(st.integers(0, len(LIST.der) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(place: int, change: int) -> None:
    damaged = bytearray(LIST.der)
    damaged[place] ^= change
    with pytest.raises(RemoteError):
        parse_list(bytes(damaged), AUTHORITY.certificate)


@given(st.binary(max_size=300))
def test_rubbish_is_refused_and_raises_nothing_else(content: bytes) -> None:
    for each in (content, b"-----BEGIN X509 CRL-----\n" + content, LIST.der[:40] + content):
        with pytest.raises(RemoteError):
            parse_list(each, AUTHORITY.certificate)


def test_a_list_is_good_as_long_as_the_authority_is() -> None:
    """A list that ran out would let everybody in again, or keep everybody out."""

    crl = x509.load_der_x509_crl(LIST.der)
    assert crl.next_update_utc == AUTHORITY.certificate.not_valid_after_utc
    assert crl.last_update_utc < datetime.now(UTC) - timedelta(minutes=59)


def _handshake(server: NodeIdentity, client: NodeIdentity, name: str) -> None:
    """Do a TLS handshake in memory. Raises ssl.SSLError if either side refuses the other."""
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.server_context().wrap_bio(a, b, server_side=True),
        client.client_context().wrap_bio(b, a, server_hostname=name),
    ]
    for _ in range(10):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_tls_refuses_a_revoked_certificate_on_either_side_and_no_other(tmp_path: Path) -> None:
    good = NodeIdentity.load(write_identity(tmp_path, AUTHORITY, "node0"), "node0")
    bad = NodeIdentity.load(write_identity(tmp_path, AUTHORITY, "node1"), "node1")
    third = NodeIdentity.load(write_identity(tmp_path, AUTHORITY, "node2"), "node2")
    _handshake(good, bad, "node0")
    good.distrust(revoke(AUTHORITY, [bad.serial]), tmp_path / "trust.pem")
    for server, client in ((good, bad), (bad, good)):
        with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
            _handshake(server, client, server.node)
    _handshake(good, third, "node0")
    _handshake(third, good, "node2")


def test_what_a_revoked_node_signs_is_not_believed(tmp_path: Path) -> None:
    identity = NodeIdentity.load(write_identity(tmp_path, AUTHORITY, "node1"), "node1")
    payload = encode(Announcement("c", "node1", 3, bytes(32), bytes(256)))
    signed = Signed(payload, identity.certificate_der, identity.sign(payload))
    verifier = StatementVerifier(AUTHORITY.certificate, "c", {"node1"})
    assert verifier.verify(signed)[0] == "node1"
    verifier.set_revoked(frozenset({identity.serial}))
    with pytest.raises(RemoteError, match="is revoked"):
        verifier.verify(signed)


def test_the_registry_revokes_all_of_a_node_and_one_file(tmp_path: Path) -> None:
    registry = _registry(tmp_path)
    first, second, other = (
        registry.authority.issue(name, new_key().public_key()) for name in ("node1", "node1", "node2")
    )
    for certificate in (first, second, other):
        registry.record(certificate)
    assert registry.revoked == NOTHING_REVOKED
    assert {each.serial_number for each in registry.revoke("node1")} == {first.serial_number, second.serial_number}
    assert registry.revoke("node1") == []
    file = next((tmp_path / "issued").glob("node2-*.pem"))
    assert [each.serial_number for each in registry.revoke(str(file))] == [other.serial_number]
    assert registry.revoked.number == 2
    assert len(registry.revoked.serials) == 3


def test_the_registry_refuses_what_it_did_not_issue(tmp_path: Path) -> None:
    registry = _registry(tmp_path)
    with pytest.raises(OperatorError, match="no certificate of this name was issued here"):
        registry.revoke("node9")
    foreign = write_identity(tmp_path, Authority.create("another"), "node1")
    with pytest.raises(OperatorError, match="was not issued by the authority"):
        registry.revoke(str(foreign.certificate))


def _registry(folder: Path) -> Registry:

    (folder / "ca.pem").write_bytes(certificate_pem(AUTHORITY.certificate))
    (folder / "ca.key").touch(0o600)
    (folder / "ca.key").write_bytes(key_pem(AUTHORITY.key))
    return Registry.open(folder)
