"""``p2pfl-node pki``: certificates. A node's private key is made where it stays; only a request travels."""

from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from appliance.node.config import DEFAULT_PATH, load
from appliance.operator_api.client import NodeApi
from appliance.pki.authority import Authority, certificate_pem, key_pem, new_key, request_pem
from appliance.pki.certificates import MALFORMED, cluster_of, is_issued_by, node_name_of
from appliance.pki.identity import read_certificate
from appliance.pki.registry import Registry
from appliance.storage.files import write_atomically
from appliance.storage.guarded import read_file, read_guarded
from appliance.words.errors import OperatorError

_FILE = click.Path(path_type=Path)
_SOON_DAYS = 30
_config = click.option(
    "--config", "file", type=_FILE, default=DEFAULT_PATH, show_default=True, help="The node's configuration."
)
_authority = click.option(
    "--ca", "folder", type=_FILE, required=True, help="The authority's folder, with ca.pem and ca.key."
)


@click.group()
def pki() -> None:
    """Certificates: create an authority, issue, renew, revoke, show."""


@pki.command()
@_config
def show(file: Path) -> None:
    """Show whose certificates a node has, and until when they are valid."""
    config = load(file)
    for path in (config.identity.ca, config.identity.certificate):
        certificate = read_certificate(path)
        whose = node_name_of(certificate) or f"authority of {cluster_of(certificate)}"
        click.echo(f"{whose}: {_validity(certificate)}, {path}")


@pki.command()
@click.argument("cluster")
@click.argument("folder", metavar="DIR", type=_FILE)
def create(cluster: str, folder: Path) -> None:
    """Create the authority of CLUSTER in DIR (ca.pem, ca.key). Keep ca.key off the nodes."""
    key, certificate = folder / "ca.key", folder / "ca.pem"
    _refuse_existing(key, certificate)
    authority = Authority.create(cluster)
    _make_folder(folder)
    write_atomically(key, key_pem(authority.key), 0o600)
    write_atomically(certificate, certificate_pem(authority.certificate), 0o644)
    click.echo(f"{certificate}: goes to every node\n{key}: stays here, and is backed up")


@pki.command()
@click.argument("node")
@click.argument("folder", metavar="DIR", type=_FILE)
def csr(node: str, folder: Path) -> None:
    """Make a key for NODE in DIR (node.key), and the request to have its certificate issued (node.csr)."""
    key, request = folder / "node.key", folder / "node.csr"
    _refuse_existing(key, request)
    private = new_key()
    content = request_pem(node, private)
    _make_folder(folder)
    write_atomically(key, key_pem(private), 0o600)
    write_atomically(request, content, 0o644)
    click.echo(f"{request}: have it issued with: p2pfl-node pki issue --ca CA_DIR {request}\n{key}: stays here")


@pki.command()
@_authority
@click.option("--host", default="", help="The node's IP address, to be in the certificate too.")
@click.option("--out", type=_FILE, help="The certificate's file; node.pem beside the request by default.")
@click.argument("request", type=_FILE)
def issue(folder: Path, host: str, out: Path | None, request: Path) -> None:
    """Issue the certificate that REQUEST asks for."""
    out = out or request.with_suffix(".pem")
    _refuse_existing(out)
    registry = Registry.open(folder)
    certificate = registry.authority.issue_from_request(read_file(request), host=host)
    registry.record(certificate)
    write_atomically(out, certificate_pem(certificate), 0o644)
    click.echo(f"{out}: {node_name_of(certificate)}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}")


@pki.command(name="list")
@_authority
def list_(folder: Path) -> None:
    """List the certificates that the authority issued, and which of them are revoked."""
    registry = Registry.open(folder)
    revoked = registry.revoked
    click.echo(
        f"authority of {cluster_of(registry.authority.certificate)}: {_validity(registry.authority.certificate)}"
    )
    for certificate in registry.issued():
        state = "REVOKED" if certificate.serial_number in revoked.serials else _validity(certificate)
        click.echo(f"{node_name_of(certificate)}: {state}, serial {certificate.serial_number:x}")


@pki.command()
@_authority
@click.argument("what", metavar="NODE_OR_FILE", nargs=-1, required=True)
def revoke(folder: Path, what: tuple[str, ...]) -> None:
    """Revoke the certificates of a node, or the one in a file. Then distribute the list."""
    registry = Registry.open(folder)
    for each in what:
        fresh = registry.revoke(each)
        for certificate in fresh:
            click.echo(f"{node_name_of(certificate)}, serial {certificate.serial_number:x}: revoked")
        if not fresh:
            click.echo(f"{each}: was revoked already")
    path = folder / "revoked.pem"
    click.echo(f"{path}: list {registry.revoked.number}; give it to any one node: p2pfl-node pki distribute {path}")


@pki.command()
@_config
@click.argument("revoked", type=_FILE)
def distribute(file: Path, revoked: Path) -> None:
    """Give the running node the authority's newest list (revoked.pem); it tells all others, and they act on it."""
    NodeApi(load(file).operator).revoke(read_file(revoked))
    click.echo("the list is in force here, and on its way to the other nodes; those that are down get it later")


@pki.command()
@_config
def renew(file: Path) -> None:
    """Make a new key and request beside this node's present ones; both stay in use until ``pki install``."""
    config = load(file)
    key, request = _new_key_path(config.identity.private_key), config.identity.certificate.with_suffix(".csr")
    # Not the request: that of ``pki csr`` lies there since its answer came, and none is worth anything without its key.
    _refuse_existing(key)
    private = new_key()
    write_atomically(key, key_pem(private), 0o600)
    write_atomically(request, request_pem(config.node, private), 0o644)
    click.echo(
        f"{request}: have it issued: p2pfl-node pki issue --ca CA_DIR --out new.pem {request.name}\n"
        f"then: p2pfl-node pki install --config {file} new.pem"
    )


@pki.command()
@_config
@click.argument("certificate", type=_FILE)
def install(file: Path, certificate: Path) -> None:
    """Put the renewed CERTIFICATE and its key in the place of the present ones. The running node notices by itself."""
    config = load(file)
    key = _new_key_path(config.identity.private_key)
    fresh, content = read_certificate(certificate), read_guarded(key)
    try:
        belongs = load_pem_private_key(content, None).public_key() == fresh.public_key()
    except MALFORMED:
        raise OperatorError(f"{key}: is not a private key; make a new one: p2pfl-node pki renew") from None
    if (
        not belongs
        or node_name_of(fresh) != config.node
        or not is_issued_by(fresh, read_certificate(config.identity.ca))
    ):
        raise OperatorError(f"{certificate}: is not the answer to this node's request; nothing was changed")
    write_atomically(config.identity.private_key, content, 0o600)
    write_atomically(config.identity.certificate, certificate_pem(fresh), 0o644)
    key.unlink()
    config.identity.certificate.with_suffix(".csr").unlink(missing_ok=True)
    click.echo(f"{config.identity.certificate}: {_validity(fresh)}; a running node uses it within seconds")


def _new_key_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _validity(certificate: x509.Certificate) -> str:
    end = certificate.not_valid_after_utc
    days = (end - datetime.now(UTC)).days
    if days < 0:
        return f"EXPIRED on {end:%Y-%m-%d}"
    return f"valid until {end:%Y-%m-%d} ({days} days left{', RENEW IT' if days < _SOON_DAYS else ''})"


def _refuse_existing(*files: Path) -> None:
    for file in files:
        if file.exists():
            raise OperatorError(f"{file}: exists already and is never overwritten; move it away first")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"{folder}: can't be made ({error.strerror})") from None
