"""What the cluster's certificates say, and reading them: one place for the rules that issuing and checking share."""

import ipaddress
import re
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey as PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

MALFORMED = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""All that the library raises about a certificate or request that somebody else made; they have no common root."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def name_problem(name: str) -> str:
    """Return why a certificate can't carry this node name; empty if it can.

    An IP address is no name: TLS would look it up among the addresses of a certificate, which are not identities.
    """
    try:
        ipaddress.ip_address(name)
    except ValueError:
        legal = len(name) <= 63 and all(_LABEL.fullmatch(label) for label in name.split("."))
        return "" if legal else "must be a DNS name of lower-case letters, digits, hyphens and dots"
    return "must not be an IP address"


def node_name_of(certificate: x509.Certificate) -> str | None:
    """Return the one DNS name in a certificate, which is its node's name; None if there is not exactly one."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except MALFORMED:
        return None
    dns = names.get_values_for_type(x509.DNSName)
    return dns[0] if len(dns) == 1 else None


def cluster_of(ca: x509.Certificate) -> str:
    """Return the cluster's name, which the authority's certificate carries as its organisation; may be empty."""
    try:
        attributes = ca.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    except MALFORMED:
        return ""
    return str(attributes[0].value) if attributes else ""


def is_issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Tell whether the authority signed a certificate, and issued it as a node's and not as another authority's."""
    try:
        certificate.verify_directly_issued_by(ca)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except MALFORMED:
        return False
    return not constraints.ca


def is_valid_at(certificate: x509.Certificate, now: datetime) -> bool:
    """Tell whether a certificate is neither expired nor of the future; ``now`` is aware (UTC)."""
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def has_signed(certificate: x509.Certificate, signature: bytes, content: bytes) -> bool:
    """Tell whether the holder of a certificate's key made this signature (ECDSA P-256, SHA-256) over the content."""
    try:
        key = certificate.public_key()
        if not isinstance(key, PublicKey) or key.curve.name != "secp256r1":
            return False
        key.verify(signature, content, ECDSA(SHA256()))
    except MALFORMED:
        return False
    return True
