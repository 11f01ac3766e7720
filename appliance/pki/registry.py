"""The authority's folder: its key and certificate, every certificate that it issued, and what it revoked.

ca.pem, ca.key
issued/NAME-SERIAL.pem     serial number in hex
revoked.pem                once something is revoked
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from appliance.pki.authority import Authority, certificate_pem
from appliance.pki.certificates import node_name_of
from appliance.pki.identity import read_certificate
from appliance.pki.revocations import NOTHING_REVOKED, RevocationList, parse_list, revoke
from appliance.storage.files import write_atomically
from appliance.storage.guarded import read_file, read_guarded
from appliance.words.errors import OperatorError, RemoteError

_PUBLIC = 0o644


@dataclass(frozen=True)
class Registry:
    """An authority, and what it has done so far."""

    folder: Path
    authority: Authority

    @classmethod
    def open(cls, folder: Path) -> "Registry":
        """Read an authority's folder. Raises OperatorError."""
        return cls(folder, Authority.parse(read_guarded(folder / "ca.key"), read_file(folder / "ca.pem")))

    @property
    def revoked(self) -> RevocationList:
        """What is revoked so far. Raises OperatorError if the file is damaged."""
        path = self.folder / "revoked.pem"
        if not path.exists():
            return NOTHING_REVOKED
        try:
            return parse_list(read_file(path), self.authority.certificate)
        except RemoteError as error:
            raise OperatorError(f"{path}: {error.reason}; put the newest list in place, a node has it") from None

    def issued(self) -> list[x509.Certificate]:
        """Return every certificate that was issued, by name and then by age."""
        found = [read_certificate(path) for path in (self.folder / "issued").glob("*.pem")]
        return sorted(found, key=lambda each: (node_name_of(each) or "", each.not_valid_before_utc))

    def record(self, certificate: x509.Certificate) -> None:
        """Keep a certificate that was issued, so that it can be revoked by its node's name."""
        issued = self.folder / "issued"
        issued.mkdir(mode=0o700, exist_ok=True)
        name = f"{node_name_of(certificate)}-{certificate.serial_number:x}.pem"
        write_atomically(issued / name, certificate_pem(certificate), _PUBLIC)

    def revoke(self, what: str) -> list[x509.Certificate]:
        """Revoke a node's certificates by its name, or one by its file; return those that were not revoked before.

        Raises:
            OperatorError: nothing of that name was issued, or the file is no certificate of this authority.
        """
        before = self.revoked
        named = [each for each in self.issued() if node_name_of(each) == what]
        chosen = named or [self._from_file(Path(what))]
        fresh = [each for each in chosen if each.serial_number not in before.serials]
        if fresh:
            after = revoke(self.authority, [each.serial_number for each in fresh], before)
            write_atomically(self.folder / "revoked.pem", after.pem, _PUBLIC)
        return fresh

    def _from_file(self, path: Path) -> x509.Certificate:
        if not path.exists():
            raise OperatorError(f"{path}: no certificate of this name was issued here, and there is no such file")
        certificate = read_certificate(path)
        if certificate.issuer != self.authority.certificate.subject:
            raise OperatorError(f"{path}: was not issued by the authority in {self.folder}")
        return certificate
