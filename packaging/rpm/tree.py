"""The RPM's private tree of Python packages: what is left out of it, what must hold for it, and its list of files.

Usage: tree.py prune SITE | check TREE --not-inside FOLDER ... | list BUILDROOT SITE
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

NEWEST = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 25), "CXXABI": (1, 3, 11), "GCC": (8, 0, 0)}
"""The newest symbol versions that RHEL 8 has (glibc 2.28, libstdc++ and libgcc of GCC 8)."""
NEEDED = re.compile(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]")
VERSION = re.compile(r"\b(GLIBC|GLIBCXX|CXXABI|GCC)_(\d+(?:\.\d+)*)\b")
CUDA = re.compile(r"cuda|cudart|cudnn|cublas|nvjpeg|nvrtc|nccl|c10_hip", re.IGNORECASE)
TESTS = ("tests", "test")
KEPT_TESTS = {"numpy/_core/tests"}
"""Of numpy, one module in its tests is imported by its public numpy.testing; that one is kept."""
NOT_NEEDED = (
    "bin",  # what pip makes for a command line; the node's own is /usr/bin/p2pfl-node
    "torch/include",
    "torch/share",
    "torch/testing/_internal/py312_intrinsics.py",  # a test in the syntax of later Pythons
    # torchvision's native parts are built for CUDA, and nothing here calls them (appliance/training/vision.py).
    "torchvision/_C.so",
    "torchvision/image.so",
    "torchvision.libs",
)
# Wherever they are: sources, headers, Windows programs, what a builder's tool left, libraries of PyTorch's own tests.
NOT_RUN = (
    *("*.a", "*.c", "*.cpp", "*.h", "*.pc", "*.pyi", "*.exe", ".lock"),
    *("*_test.so", "libbackend_with_compiler.so", "libaoti_custom_ops.so"),
)
# What pip says of how it installed: paths of the builder, and checksums of files that are not here any more.
NOT_TRUE = ("RECORD", "REQUESTED", "direct_url.json")


def prune(site: Path) -> None:
    """Leave out tests, headers, and what only serves to build."""
    for name in NOT_NEEDED:
        _remove(site / name)
    for program in (site / "torch/bin").iterdir():
        if program.name != "torch_shm_manager":  # PyTorch looks for this one when it is imported
            _remove(program)
    for folder in sorted(site.rglob("*")):
        if folder.name in TESTS and folder.is_dir() and str(folder.relative_to(site)) not in KEPT_TESTS:
            shutil.rmtree(folder)
    _prune_kept_tests(site)
    for metadata in site.glob("*.dist-info"):
        for name in NOT_TRUE:
            (metadata / name).unlink(missing_ok=True)
        (metadata / "INSTALLER").write_text("rpm\n")
    for pattern in NOT_RUN:
        for file in site.rglob(pattern):
            file.unlink()
    _set_modes(site)


def _set_modes(site: Path) -> None:
    """Leave nothing executable but machine code: no module here is a program, whatever its author thought of it."""
    programs = set(_objects(site))
    for file in filter(Path.is_file, site.rglob("*")):
        file.chmod(0o755 if file in programs else 0o644)
        content = file.read_bytes() if file.suffix == ".py" else b""
        if content.startswith(b"#!"):
            # Only the mark goes, so that each line keeps its number.
            file.write_bytes(b"#" + content[2:])


def _prune_kept_tests(site: Path) -> None:
    for kept in KEPT_TESTS:
        for file in (site / kept).iterdir():
            if file.name not in {"__init__.py", "_natype.py"}:
                _remove(file)


def check(tree: Path, foreign: list[Path]) -> list[str]:
    """Return what is wrong with the tree: symbols that RHEL 8 lacks, CUDA, tests, paths of the builder."""
    wrong = []
    objects = _objects(tree)
    for file in objects:
        dynamic = _readelf("--dynamic", file)
        symbols = _readelf("--version-info", file)
        wrong += [f"{file}: needs {name}, which is CUDA" for name in NEEDED.findall(dynamic) if CUDA.search(name)]
        wrong += [f"{file}: is CUDA"] if CUDA.search(file.name) else []
        for library, version in sorted(set(VERSION.findall(symbols))):
            if tuple(map(int, version.split("."))) > NEWEST[library]:
                wrong.append(f"{file}: needs {library}_{version}, and RHEL 8 has {_dotted(NEWEST[library])}")
    for path in tree.rglob("*"):
        if path.is_dir() and path.name in TESTS and not any(str(path).endswith(kept) for kept in KEPT_TESTS):
            wrong.append(f"{path}: is a folder of tests")
    for path in filter(Path.is_file, tree.rglob("*")):
        content = path.read_bytes()
        named = [folder for folder in foreign if str(folder).encode() in content]
        wrong += [f"{path}: names {folder}, a folder of the builder" for folder in named]
    if not objects:
        wrong.append(f"{tree}: holds no shared object, so this checked nothing")
    print(f"{tree.name}: {len(objects)} shared objects checked against glibc {_dotted(NEWEST['GLIBC'])}, no CUDA")
    return wrong


def list_files(buildroot: Path, site: Path) -> list[str]:
    """Return the lines of the spec's file list: everything in the tree, licences marked as such."""
    lines = []
    for path in sorted((buildroot / site.relative_to("/")).rglob("*")):
        name = f"/{path.relative_to(buildroot)}"
        if path.is_dir():
            lines.append(f'%dir "{name}"')
        elif ".dist-info" in name and re.match(r"(LICEN[SC]E|COPYING|NOTICE|AUTHORS)", path.name, re.IGNORECASE):
            lines.append(f'%license "{name}"')
        else:
            lines.append(f'"{name}"')
    return [f'%dir "{site}"', *lines]


def _objects(tree: Path) -> list[Path]:
    """Return the shared objects and programs: by their first bytes, since names lie."""
    return sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink() and _is_elf(path))


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _readelf(option: str, file: Path) -> str:
    command = ["readelf", "--wide", option, str(file)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, errors="replace").stdout


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> int:
    """Do what the first argument says; 1 if the tree is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prune").add_argument("site", type=Path)
    checking = commands.add_parser("check")
    checking.add_argument("tree", type=Path)
    checking.add_argument("--not-inside", type=Path, action="append", default=[])
    listing = commands.add_parser("list")
    listing.add_argument("buildroot", type=Path)
    listing.add_argument("site", type=Path)
    options = parser.parse_args()
    if options.command == "prune":
        prune(options.site)
    elif options.command == "list":
        print("\n".join(list_files(options.buildroot, options.site)))
    else:
        wrong = check(options.tree, options.not_inside)
        print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
        return 1 if wrong else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
