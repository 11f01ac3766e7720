"""``p2pfl-node pki``: certificates. A node's private key is made where it stays; only a request travels."""

from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.node.config import DEFAULT_PATH, load
from appliance.pki.authority import Authority, certificate_pem, key_pem, new_key, request_pem
from appliance.pki.certificates import cluster_of, node_name_of
from appliance.pki.identity import read_certificate
from appliance.storage.files import write_atomically
from appliance.storage.guarded import read_file, read_guarded
from appliance.words.errors import OperatorError

_FILE = click.Path(path_type=Path)


@click.group()
def pki() -> None:
    """Certificates of the cluster: show a node's, make a request, issue."""


@pki.command()
@click.option("--config", "file", type=_FILE, default=DEFAULT_PATH, show_default=True, help="The node's configuration.")
def show(file: Path) -> None:
    """Show whose certificates a node has, and until when they are valid."""
    config = load(file)
    for path in (config.identity.ca, config.identity.certificate):
        certificate = read_certificate(path)
        end = certificate.not_valid_after_utc
        days = (end - datetime.now(UTC)).days
        whose = node_name_of(certificate) or f"authority of {cluster_of(certificate)}"
        click.echo(f"{whose}: valid until {end:%Y-%m-%d} ({days} days left), {path}")


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
@click.option("--ca", type=_FILE, required=True, help="The authority's folder, with ca.pem and ca.key.")
@click.option("--host", default="", help="The node's IP address, to be in the certificate too.")
@click.option("--out", type=_FILE, help="The certificate's file; node.pem beside the request by default.")
@click.argument("request", type=_FILE)
def issue(ca: Path, host: str, out: Path | None, request: Path) -> None:
    """Issue the certificate that REQUEST asks for."""
    out = out or request.with_suffix(".pem")
    _refuse_existing(out)
    authority = Authority.parse(read_guarded(ca / "ca.key"), read_file(ca / "ca.pem"))
    certificate = authority.issue_from_request(read_file(request), host=host)
    write_atomically(out, certificate_pem(certificate), 0o644)
    click.echo(f"{out}: {node_name_of(certificate)}, valid until {certificate.not_valid_after_utc:%Y-%m-%d}")


def _refuse_existing(*files: Path) -> None:
    for file in files:
        if file.exists():
            raise OperatorError(f"{file}: exists already and is never overwritten; move it away first")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(f"{folder}: can't be made ({error.strerror})") from None
