"""A node's identity: its certificate, its private key and the authority that it trusts; checked when it is loaded."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from appliance.pki.certificates import MALFORMED, is_issued_by, node_name_of
from appliance.pki.revocations import RevocationList
from appliance.pki.statements import signed_content
from appliance.storage.files import write_atomically
from appliance.storage.guarded import read_file, read_guarded
from appliance.words.errors import OperatorError
from appliance.words.ids import NodeName
from appliance.words.settings import Identity


class NodeIdentity:
    """What a node proves who it is with. Make one with ``load``, which refuses files that peers would refuse."""

    def __init__(
        self,
        files: Identity,
        node: NodeName,
        ca: x509.Certificate,
        certificate: x509.Certificate,
        key: EllipticCurvePrivateKey,
    ) -> None:
        self.node = node
        self.ca = ca
        self.certificate_der = certificate.public_bytes(Encoding.DER)
        self.expires_at = certificate.not_valid_after_utc
        """When peers stop accepting the certificate; aware, UTC."""
        self.serial = certificate.serial_number
        self._trusted = files.ca
        self._checks_lists = False
        self._files = files
        self._key = key

    @classmethod
    def load(cls, files: Identity, node: NodeName, *, now: datetime | None = None) -> Self:
        """Read and check the files of a node's identity.

        Raises:
            OperatorError: one sentence that names the file and says what to do.
        """
        now = now or datetime.now(UTC)
        ca = read_certificate(files.ca)
        certificate = read_certificate(files.certificate)
        key = _private_key(files.private_key)
        place = files.certificate
        if key.public_key() != certificate.public_key():
            raise OperatorError(
                f"{files.private_key}: this private key does not belong to the certificate {place}; "
                "put the pair that was issued together in place"
            )
        if not is_issued_by(certificate, ca):
            raise OperatorError(
                f"{place}: a foreign certificate, not signed by the authority in {files.ca}; "
                "have the cluster's authority issue one (p2pfl-node pki csr, then pki issue)"
            )
        name = node_name_of(certificate)
        if name != node:
            raise OperatorError(
                f"{place}: is the certificate of {name or 'no node'}, and this node is {node}; "
                "correct the key `node` in the configuration, or put this node's certificate in place"
            )
        for file, holder in ((files.ca, ca), (place, certificate)):
            _check_time(file, holder, now)
        return cls(files, node, ca, certificate, key)

    def sign(self, payload: bytes) -> bytes:
        """Return this node's signature over an encoded statement (ECDSA P-256, SHA-256; docs/protocol.md)."""
        return self._key.sign(signed_content(payload), ECDSA(SHA256()))

    def days_left(self, now: datetime | None = None) -> list[tuple[str, Path, float]]:
        """Return for this node's certificate and the authority's: whose, its file, and for how many days it is good."""
        now = now or datetime.now(UTC)
        ends = (
            ("this node's", self._files.certificate, self.expires_at),
            ("the authority's", self._files.ca, self.ca_end),
        )
        return [(whose, path, (end - now) / timedelta(days=1)) for whose, path, end in ends]

    @property
    def ca_end(self) -> datetime:
        """When the authority's certificate expires; aware, UTC."""
        return self.ca.not_valid_after_utc

    def distrust(self, revoked: RevocationList, path: Path) -> None:
        """Refuse the certificates of a list in all TLS settings that are made from now on.

        TLS reads authority and list from one file, which is written to ``path``. Raises StateError.
        """
        write_atomically(path, read_file(self._files.ca) + revoked.pem, 0o644)
        self._trusted, self._checks_lists = path, True

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS settings of the mesh's listening side: TLS 1.3, and only for members' certificates."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        # Peers keep their connections for hours; a session ticket after each handshake would be sent for nothing.
        context.num_tickets = 0
        return self._equip(context)

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS settings for calling peers: TLS 1.3, the peer's certificate must carry the name called."""
        return self._equip(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _equip(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cafile=self._trusted)
        if self._checks_lists:
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        context.load_cert_chain(self._files.certificate, self._files.private_key)
        return context


def read_certificate(path: Path) -> x509.Certificate:
    """Read a certificate (PEM). Raises OperatorError if it can't be read or is none."""
    try:
        certificate = x509.load_pem_x509_certificate(read_file(path))
        certificate.public_key()  # it is parsed only when it is asked for
        return certificate
    except MALFORMED:
        raise OperatorError(f"{path}: is not a certificate in PEM; put the one that was issued in place") from None


def _private_key(path: Path) -> EllipticCurvePrivateKey:
    content = read_guarded(path)
    try:
        key = load_pem_private_key(content, None)
    except MALFORMED:
        raise OperatorError(f"{path}: is not an unencrypted private key in PEM; put this node's in place") from None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise OperatorError(f"{path}: is not an elliptic-curve key (P-256); make one with p2pfl-node pki csr")
    return key


def _check_time(path: Path, certificate: x509.Certificate, now: datetime) -> None:
    if now > certificate.not_valid_after_utc:
        end = certificate.not_valid_after_utc
        raise OperatorError(f"{path}: this certificate expired on {end:%Y-%m-%d}; have a new one issued (pki issue)")
    if now < certificate.not_valid_before_utc:
        begin = certificate.not_valid_before_utc
        raise OperatorError(f"{path}: this certificate is valid only from {begin:%Y-%m-%d %H:%M} UTC; check the clock")
