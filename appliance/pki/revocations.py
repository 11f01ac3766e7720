"""Revocation lists: X.509 CRLs of the cluster's authority (RFC 5280, section 5). Parsing only, no file and no network.

A list counts for ever, until one with a higher number takes its place: its ``nextUpdate`` is the authority's own end. A
list that expired would either let revoked nodes in again, or keep everybody out.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from appliance.pki.authority import Authority
from appliance.pki.certificates import MALFORMED
from appliance.words.errors import RemoteError

_CLOCK_SKEW = timedelta(hours=1)


@dataclass(frozen=True)
class RevocationList:
    """The serial numbers of certificates that don't count any more.

    Attributes:
        number: of a later list it is higher; 0 where there is no list.
        der: the list itself; empty where there is none.
    """

    number: int = 0
    serials: frozenset[int] = frozenset()
    der: bytes = b""

    @property
    def pem(self) -> bytes:
        """The list as PEM; empty where there is none."""
        return x509.load_der_x509_crl(self.der).public_bytes(Encoding.PEM) if self.der else b""


NOTHING_REVOKED = RevocationList()


def parse_list(content: bytes, ca: x509.Certificate) -> RevocationList:
    """Parse a list, PEM or DER.

    Raises:
        RemoteError: it is none, or not this authority's; the reason quotes nothing of it.
    """
    try:
        is_pem = content.startswith(b"-----BEGIN")
        crl = x509.load_pem_x509_crl(content) if is_pem else x509.load_der_x509_crl(content)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        key = ca.public_key()
        # The signature first: names that nobody signed need not be parsed, and the library warns of odd ones.
        is_ours = crl.is_signature_valid(key) and crl.issuer == ca.subject  # type: ignore[arg-type]  # a key it can't be
        serials = frozenset(revoked.serial_number for revoked in crl)
    except MALFORMED:
        raise RemoteError("revocation list: is none") from None
    if not is_ours:
        raise RemoteError("revocation list: is not signed by this cluster's authority")
    if number < 1:
        raise RemoteError("revocation list: has no number")
    return RevocationList(number, serials, crl.public_bytes(Encoding.DER))


def revoke(
    authority: Authority,
    serials: Collection[int],
    before: RevocationList = NOTHING_REVOKED,
    now: datetime | None = None,
) -> RevocationList:
    """Return the list that follows ``before``, with these serial numbers too."""
    now = now or datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - _CLOCK_SKEW)
        .next_update(authority.certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(before.number + 1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    for serial in sorted(before.serials | set(serials)):
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - _CLOCK_SKEW).build()
        builder = builder.add_revoked_certificate(revoked)
    crl = builder.sign(authority.key, SHA256())
    return parse_list(crl.public_bytes(Encoding.DER), authority.certificate)
