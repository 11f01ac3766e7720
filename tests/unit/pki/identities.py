"""Identities on disk, for tests that need real certificates."""

from datetime import datetime
from pathlib import Path

from appliance.pki.authority import Authority, certificate_pem, key_pem, new_key
from appliance.words.settings import Identity


def write_identity(folder: Path, authority: Authority, name: str, *, now: datetime | None = None) -> Identity:
    """Write a CA certificate, a node's certificate and its key into a folder of their own."""
    home = folder / f"{name}-{authority.certificate.serial_number}"
    home.mkdir(exist_ok=True)
    key = new_key()
    (home / "ca.pem").write_bytes(certificate_pem(authority.certificate))
    (home / "node.pem").write_bytes(certificate_pem(authority.issue(name, key.public_key(), host="127.0.0.1", now=now)))
    (home / "node.key").touch(0o600)
    (home / "node.key").write_bytes(key_pem(key))
    return Identity(
        ca=home / "ca.pem",
        certificate=home / "node.pem",
        private_key=home / "node.key",
    )
