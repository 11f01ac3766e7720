"""What the leader says to all is signed with its node certificate: so no other node can pose as the leader."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from cryptography import x509

from appliance.pki.certificates import MALFORMED, has_signed, is_issued_by, is_valid_at, node_name_of
from appliance.words.errors import RemoteError
from appliance.words.ids import NodeName
from appliance.words.messages import LeaderStatement, Signed, decode_statement

_SIGNATURE_LABEL = b"p2pfl-node/statement/1\x00"
_CACHED_CERTIFICATES = 64


def signed_content(payload: bytes) -> bytes:
    """Return what is signed for a statement: a label, then its bytes.

    The same key signs TLS handshakes; the label keeps one kind of signature from being passed off as the other.
    """
    return _SIGNATURE_LABEL + payload


def wall_clock() -> datetime:
    """Return the time of day (UTC), for certificates' validity alone."""
    return datetime.now(UTC)


class StatementVerifier:
    """Checks leaders' statements against the cluster's authority and its members.

    Args:
        ca: the authority's certificate.
        cluster: this cluster's name.
        members: the names that a leader may have.
        clock: the time of day, to see whether a certificate is valid.
    """

    def __init__(
        self,
        ca: x509.Certificate,
        cluster: str,
        members: Iterable[NodeName],
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        self._ca = ca
        self._cluster = cluster
        self._members = frozenset(members)
        self._clock = clock
        self._revoked: frozenset[int] = frozenset()
        self._known: OrderedDict[bytes, tuple[NodeName, x509.Certificate]] = OrderedDict()

    def set_revoked(self, serials: frozenset[int]) -> None:
        """Believe no certificate with one of these serial numbers."""
        self._revoked = serials
        self._known.clear()

    def set_members(self, members: Iterable[NodeName]) -> None:
        """Believe these from now on, and nobody else."""
        self._members = frozenset(members)
        self._known.clear()

    def verify(self, signed: Signed) -> tuple[NodeName, LeaderStatement]:
        """Return who made a statement, and the statement.

        That the signer leads the statement's term is not known here; whoever knows the terms checks it.

        Raises:
            RemoteError: the certificate is foreign, not valid now or of no member, the signature is wrong, or the
                statement is another cluster's or names another leader than its signer.
        """
        name, certificate = self._member(signed.certificate)
        if not is_valid_at(certificate, self._clock()):
            raise RemoteError(f"statement: the certificate of {name} is not valid at this time")
        if not has_signed(certificate, signed.signature, signed_content(signed.payload)):
            raise RemoteError(f"statement: the signature is not that of {name}")
        statement = decode_statement(signed.payload)
        if statement.cluster != self._cluster:
            raise RemoteError(f"statement: {name} made it for another cluster")
        if statement.leader != name:
            raise RemoteError(f"statement: {name} signed it in the name of another leader")
        return name, statement

    def _member(self, der: bytes) -> tuple[NodeName, x509.Certificate]:
        """Return a certificate and its node's name; only what has passed is kept, so rubbish displaces nothing."""
        known = self._known.get(der)
        if known is not None:
            self._known.move_to_end(der)
            return known
        try:
            certificate = x509.load_der_x509_certificate(der)
        except MALFORMED:
            raise RemoteError("statement: its certificate is not one in DER") from None
        if certificate.serial_number in self._revoked:
            raise RemoteError("statement: its certificate is revoked")
        name = node_name_of(certificate) if is_issued_by(certificate, self._ca) else None
        if name is None or name not in self._members:
            raise RemoteError("statement: its certificate is not a member's, issued by this cluster's authority")
        self._known[der] = name, certificate
        if len(self._known) > _CACHED_CERTIFICATES:
            self._known.popitem(last=False)
        return name, certificate
