"""Identities: what loads, and the one sentence for each that does not."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from appliance.pki.authority import (
    NODE_LIFETIME,
    Authority,
    certificate_pem,
    key_pem,
    new_key,
    request_pem,
)
from appliance.pki.certificates import cluster_of, is_issued_by, node_name_of
from appliance.pki.identity import NodeIdentity
from appliance.storage.guarded import read_guarded
from appliance.words.errors import OperatorError
from appliance.words.settings import Identity
from tests.unit.pki.identities import write_identity

AUTHORITY = Authority.create("test")
OTHER = Authority.create("test")


def test_a_good_identity_loads(tmp_path: Path) -> None:
    identity = NodeIdentity.load(write_identity(tmp_path, AUTHORITY, "node0"), "node0")
    certificate = x509.load_der_x509_certificate(identity.certificate_der)
    assert node_name_of(certificate) == "node0"
    assert is_issued_by(certificate, AUTHORITY.certificate)
    assert not is_issued_by(certificate, OTHER.certificate)
    assert identity.expires_at == certificate.not_valid_after_utc
    assert identity.expires_at - datetime.now(UTC) > NODE_LIFETIME - timedelta(minutes=5)
    assert cluster_of(identity.ca) == "test"


def _remove_ca(files: Identity) -> None:
    files.ca.unlink()


def _remove_key(files: Identity) -> None:
    files.private_key.unlink()


def _open_key(files: Identity) -> None:
    files.private_key.chmod(0o640)


def _other_key(files: Identity) -> None:
    files.private_key.write_bytes(key_pem(new_key()))


def _rsa_key(files: Identity) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    files.private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _rubbish_key(files: Identity) -> None:
    files.private_key.write_bytes(b"-----BEGIN rubbish")


def _rubbish_certificate(files: Identity) -> None:
    files.certificate.write_bytes(b"")


def _foreign_ca(files: Identity) -> None:
    files.ca.write_bytes(certificate_pem(OTHER.certificate))


@pytest.mark.parametrize(
    ("damage", "file", "sentence"),
    [
        (_remove_ca, "ca", "is missing"),
        (_remove_key, "private_key", "is missing"),
        (_open_key, "private_key", "chmod 600"),
        (_other_key, "private_key", "does not belong to the certificate"),
        (_rsa_key, "private_key", "not an elliptic-curve key"),
        (_rubbish_key, "private_key", "not an unencrypted private key"),
        (_rubbish_certificate, "certificate", "is not a certificate in PEM"),
        (_foreign_ca, "certificate", "a foreign certificate"),
    ],
)
def test_damaged_files_are_told_by_name(
    tmp_path: Path, damage: Callable[[Identity], None], file: str, sentence: str
) -> None:
    files = write_identity(tmp_path, AUTHORITY, "node0")
    damage(files)
    with pytest.raises(OperatorError, match=sentence) as refusal:
        NodeIdentity.load(files, "node0")
    assert str(refusal.value).startswith(str(getattr(files, file)))
    assert "\n" not in str(refusal.value)


def test_the_certificate_of_another_node_is_refused(tmp_path: Path) -> None:
    files = write_identity(tmp_path, AUTHORITY, "node1")
    with pytest.raises(OperatorError, match="is the certificate of node1, and this node is node0"):
        NodeIdentity.load(files, "node0")


@pytest.mark.parametrize(
    ("days", "sentence"), [(-900, "expired on"), (30, "valid only from")], ids=["expired", "of the future"]
)
def test_a_certificate_out_of_its_time_is_refused(tmp_path: Path, days: int, sentence: str) -> None:
    files = write_identity(tmp_path, AUTHORITY, "node0", now=datetime.now(UTC) + timedelta(days=days))
    with pytest.raises(OperatorError, match=sentence):
        NodeIdentity.load(files, "node0")


def test_a_node_can_not_act_as_an_authority(tmp_path: Path) -> None:
    node_key = new_key()
    node = Authority(node_key, AUTHORITY.issue("node0", node_key.public_key()))
    forged = node.issue("node1", new_key().public_key())
    assert not is_issued_by(forged, AUTHORITY.certificate)
    assert not is_issued_by(AUTHORITY.certificate, AUTHORITY.certificate)


def test_a_request_carries_the_name_and_the_key_and_nothing_else_is_taken_from_it() -> None:
    key = new_key()
    certificate = AUTHORITY.issue_from_request(request_pem("node7", key), host="10.0.0.7")
    assert node_name_of(certificate) == "node7"
    assert certificate.public_key() == key.public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    assert is_issued_by(certificate, AUTHORITY.certificate)


def test_bad_requests_are_refused() -> None:
    def request(names: list[str], key: ec.EllipticCurvePrivateKey) -> bytes:
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        extension = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        return builder.add_extension(extension, critical=False).sign(key, SHA256()).public_bytes(Encoding.PEM)

    good = new_key()
    for content, sentence in [
        (b"rubbish", "is not a certificate signing request"),
        (request(["node0", "node1"], good), "one node name"),
        (request(["node0"], ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (request(["*.example"], good), "DNS name"),
    ]:
        with pytest.raises(OperatorError, match=sentence):
            AUTHORITY.issue_from_request(content)


@pytest.mark.parametrize("name", ["10.0.0.1", "a..b", "-a", "a-", "*", "A", "", "a" * 64, "node_0"])
def test_names_that_tls_can_not_carry_are_refused(name: str) -> None:
    with pytest.raises(OperatorError, match="node name"):
        AUTHORITY.issue(name, new_key().public_key())


def test_an_authority_is_read_back_from_its_files() -> None:
    pair = key_pem(AUTHORITY.key), certificate_pem(AUTHORITY.certificate)
    assert Authority.parse(*pair).certificate == AUTHORITY.certificate
    with pytest.raises(OperatorError, match="does not belong"):
        Authority.parse(pair[0], certificate_pem(OTHER.certificate))
    with pytest.raises(OperatorError, match="not valid PEM"):
        Authority.parse(b"", pair[1])


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "consensus.secret"
    secret.write_bytes(b"x")
    secret.chmod(0o604)
    with pytest.raises(OperatorError, match="chmod 600"):
        read_guarded(secret)
    secret.chmod(0o400)
    assert read_guarded(secret) == b"x"
