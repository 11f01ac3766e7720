"""A signed dnf repository with two versions of the product, served to the guests over HTTP."""

import contextlib
import functools
import http.server
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.system.guests import CONTROL, sh

ROOT = Path(__file__).parents[2]
VERSIONS = ("0.1.0", "0.1.1")
URL = f"http://{CONTROL}:8080"
STUB = """\
Name: el8-provides
Version: 8.10
Release: 1
Summary: Stands in for what RHEL 8 has as packages, and these guests from Debian
License: MIT
BuildArch: noarch
Provides: python3.11 = 3.11.2, systemd = 239, firewalld-filesystem = 0.9.11, glibc = 2.28, libstdc++ = 8.5.0
Provides: selinux-policy-base = 3.14.3, policycoreutils = 2.9, policycoreutils-python-utils = 2.9
Provides: bash, /bin/sh, /usr/bin/sh, /bin/bash, /usr/bin/bash, /usr/bin/python3.11
%description
Stub.
%files
"""


def build(cache: Path) -> Path:
    """Build both versions from this checkout, and return the folder of the signed repository."""
    rpms, repository = cache / "rpms", cache / "repository"
    for folder in (rpms, repository):
        shutil.rmtree(folder, ignore_errors=True)
    os.environ["PYTHON"] = sys.executable
    for version in VERSIONS:
        build_rpm = ROOT / "packaging/rpm/build-rpm"
        sh(build_rpm, "--quick", "--version", version, "--out", rpms, "--wheels", cache / "wheels")
    (cache / "stub.spec").write_text(STUB)
    top = cache / "stub"
    sh("rpmbuild", "-bb", "--define", f"_topdir {top}", "--define", "_binary_payload w6.xzdio", cache / "stub.spec")
    for package in top.rglob("*.rpm"):
        shutil.copy(package, rpms)
    # A home of their own: the key is made for this run, and signs nothing else.
    home = cache / "gnupg"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    os.environ["GNUPGHOME"] = str(home)
    name = "test@p2pfl-node.invalid"
    sh("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", name, "rsa3072", "sign", "never")
    sh(ROOT / "packaging/rpm/make-repo", "--key", name, "--rpms", rpms, "--out", repository, "--url", URL)
    sh("gpgconf", "--kill", "all", check=False)
    return repository


@contextlib.contextmanager
def served(repository: Path) -> Iterator[None]:
    """Serve it on the bridge's own address."""
    handler = functools.partial(_Quiet, directory=str(repository))
    with http.server.ThreadingHTTPServer((CONTROL, 8080), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""
