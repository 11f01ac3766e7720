"""Writes requirements-3.11.lock: what the RPM bundles, at the versions of constraints.txt and with their SHA-256.

Usage: python packaging/rpm/lock.py [--python 3.12]   (``make lock`` calls it)
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17, 12, 5)]
PLATFORMS += [f"manylinux{old}_x86_64" for old in ("2014", "2010", "1")]
"""All that runs on RHEL 8's glibc 2.28; pip would choose for the glibc of the machine that it runs on."""
HEAD = """\
# What the RPM bundles beside p2pfl-node itself, for glibc 2.28 and Python {python}. `make lock` writes this file.
# torch is the CPU build: pip must be pointed at an index that has it (packaging/rpm/README.md).
"""


def main() -> None:
    """Ask pip what it would install, and write that down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="3.11", choices=("3.11", "3.12"), help="for which Python (default: 3.11)")
    python = parser.parse_args().python
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    constraints = ROOT / "constraints.txt"
    names = [f"{name}=={version}" for name, version, _ in _resolve("--constraint", constraints, *dependencies)]
    platforms = [option for platform in PLATFORMS for option in ("--platform", platform)]
    with tempfile.TemporaryDirectory() as unused:
        found = _resolve("--no-deps", "--python-version", python, "--target", unused, *platforms, *names)
    lines = [f"{name}=={version} --hash=sha256:{digest}" for name, version, digest in found]
    lock = HERE / f"requirements-{python}.lock"
    lock.write_text(HEAD.format(python=python) + "\n".join(sorted(lines, key=str.lower)) + "\n")
    print(f"{lock.relative_to(ROOT)}: {len(lines)} packages")


def _resolve(*arguments: str | Path) -> list[tuple[str, str, str]]:
    """Return name, version and SHA-256 of what pip would install."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    report = subprocess.run([*command, *map(str, arguments)], check=True, stdout=subprocess.PIPE)
    items: list[dict[str, Any]] = json.loads(report.stdout)["install"]
    return [
        (
            item["metadata"]["name"],
            item["metadata"]["version"].partition("+")[0],
            item["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for item in items
    ]


if __name__ == "__main__":
    main()
