"""The cluster's certificate authority: an ECDSA P-256 key and an X.509 certificate that signs the nodes'.

Lifetimes: the authority 10 years; a node 825 days, long enough that nobody is surprised within a project, short enough
that renewing is practised before those who know how have left. Certificates begin an hour ago, so that a node whose
clock is behind accepts them. These are the only places where wall time decides anything: X.509 knows no other.
"""

import contextlib
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.pki.certificates import MALFORMED, cluster_of, name_problem
from appliance.words.errors import OperatorError
from appliance.words.ids import NodeName

AUTHORITY_LIFETIME = timedelta(days=3652)
NODE_LIFETIME = timedelta(days=825)
_CLOCK_SKEW = timedelta(hours=1)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh private key for a node or an authority."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, PKCS #8, not encrypted: whoever calls this guards it with the file's mode."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def request_pem(node: NodeName, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate signing request (PEM) for a node; the key itself stays where it is.

    Raises:
        OperatorError: the name can't be a node's.
    """
    _check_name(node)
    names = x509.SubjectAlternativeName([x509.DNSName(node)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(node)).add_extension(names, critical=False)
    return builder.sign(key, SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass(frozen=True)
class Authority:
    """A certificate authority with its private key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, cluster: str, *, now: datetime | None = None) -> "Authority":
        """Make a new authority for a cluster."""
        key = new_key()
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
                x509.NameAttribute(NameOID.COMMON_NAME, "p2pfl-node authority"),
            ]
        )
        builder = _begin(subject, key.public_key(), AUTHORITY_LIFETIME, now).issuer_name(subject)
        # path_length 0: what this authority signs can't sign certificates in its turn.
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        return cls(key, builder.sign(key, SHA256()))

    @classmethod
    def parse(cls, key: bytes, certificate: bytes) -> "Authority":
        """Read an authority from its two PEM files.

        Raises:
            OperatorError: they are not a P-256 key and its certificate.
        """
        try:
            parsed_key = serialization.load_pem_private_key(key, None)
            parsed = x509.load_pem_x509_certificate(certificate)
            public_key = parsed.public_key()
        except MALFORMED:
            raise OperatorError("the authority's key or certificate is not valid PEM") from None
        if not isinstance(parsed_key, ec.EllipticCurvePrivateKey) or parsed_key.public_key() != public_key:
            raise OperatorError("the authority's key does not belong to its certificate")
        return cls(parsed_key, parsed)

    def issue(
        self, node: NodeName, key: ec.EllipticCurvePublicKey, *, host: str = "", now: datetime | None = None
    ) -> x509.Certificate:
        """Issue a node's certificate.

        Its one DNS name is the node's name, which is its identity in the mesh; a host that is an IP address is added
        as one, for tools that want it. A host name is not: a second DNS name would be a second identity.

        Raises:
            OperatorError: the name can't be a node's.
        """
        _check_name(node)
        names: list[x509.GeneralName] = [x509.DNSName(node)]
        with contextlib.suppress(ValueError):
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        builder = _begin(_subject(node, cluster_of(self.certificate)), key, NODE_LIFETIME, now)
        builder = builder.issuer_name(self.certificate.subject)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(both, critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return builder.add_extension(issuer, critical=False).sign(self.key, SHA256())

    def issue_from_request(self, request: bytes, *, host: str = "", now: datetime | None = None) -> x509.Certificate:
        """Issue the certificate that a request (PEM) asks for; only its name and its key are taken from it.

        Raises:
            OperatorError: it is no valid request of a node with a P-256 key.
        """
        try:
            parsed = x509.load_pem_x509_csr(request)
            names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            dns = names.get_values_for_type(x509.DNSName)
            sound, key = parsed.is_signature_valid, parsed.public_key()
        except MALFORMED:
            raise OperatorError("the request is not a certificate signing request that names a node") from None
        if not sound or len(dns) != 1 or not isinstance(key, ec.EllipticCurvePublicKey):
            raise OperatorError("the request must carry one node name and be signed by its own P-256 key")
        if not isinstance(key.curve, ec.SECP256R1):
            raise OperatorError(f"the request's key must be on the curve P-256, and is on {key.curve.name}")
        return self.issue(dns[0], key, host=host, now=now)


def _check_name(node: str) -> None:
    problem = name_problem(node)
    if problem:
        raise OperatorError(f"the node name {node!r} {problem}")


def _subject(node: NodeName, cluster: str = "") -> x509.Name:
    organisation = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster)] if cluster else []
    return x509.Name([*organisation, x509.NameAttribute(NameOID.COMMON_NAME, node)])


def _begin(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: timedelta, now: datetime | None
) -> x509.CertificateBuilder:
    start = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _CLOCK_SKEW)
        .not_valid_after(start + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
