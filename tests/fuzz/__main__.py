"""Run targets under a coverage-guided fuzzer: python -m tests.fuzz TARGET --seconds N, or --all.

Instrumented is the package ``appliance`` alone. What msgspec, cryptography and NumPy parse is compiled: the fuzzer sees
what our code makes of their answers, and not where they branch. Msgpack is mutated as values (``structure``).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).parent
CORPUS = FOLDER / "corpus"
LARGEST = 4095
"""Bytes of an input; so no file of the corpus has 4 KiB."""
MOST_FILES = 40
"""Of one target in the corpus."""
_LAST = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)/")


def main() -> int:
    """Run what the command line says; exit 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", help="a name in tests/fuzz/targets.py")
    parser.add_argument("--all", action="store_true", help="every target, one after another")
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--at-once", type=int, default=1, help="targets side by side")
    parser.add_argument("--log", type=Path, help="where the fuzzer's own words go, a file a target; and findings")
    parser.add_argument("--keep", action="store_true", help="add small inputs that found new branches to the corpus")
    parser.add_argument("--seeds", action="store_true", help="write the valid examples into the corpus anew")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.seeds:
        from tests.fuzz import seeds  # noqa: PLC0415 - under a fuzzer it must not be loaded uninstrumented

        seeds.write()
        return 0
    if options.inside is not None:
        _fuzz(options.target, options.seconds, options.inside)
    names = sorted(path.name for path in CORPUS.iterdir()) if options.all else [options.target]
    if not set(names) <= {path.name for path in CORPUS.iterdir()}:
        parser.error(f"the targets are {', '.join(sorted(path.name for path in CORPUS.iterdir()))}")
    log = options.log or Path(tempfile.mkdtemp(prefix="p2pfl-fuzz-log-"))
    log.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.at_once) as runs:
        results = list(runs.map(lambda name: _run(name, options.seconds, log, keep=options.keep), names))
    return 0 if all(results) else 1


def _fuzz(name: str, seconds: int, found: Path) -> None:
    """Fuzz in this process, which ends with it; new inputs go to the folder ``found``."""
    import atheris  # noqa: PLC0415 - what only replays the corpus does without it

    with atheris.instrument_imports(include=["appliance"], enable_loader_override=False):
        from tests.fuzz.structure import MUTATORS  # noqa: PLC0415
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    limits = [f"-max_total_time={seconds}", f"-max_len={LARGEST}", "-timeout=10", "-rss_limit_mb=2048"]
    findings = f"-artifact_prefix={found.parent}/{name}-"
    arguments = [sys.argv[0], *limits, findings, str(found), str(CORPUS / name)]
    if (mutator := MUTATORS.get(name)) is None:
        atheris.Setup(arguments, TARGETS[name])
    else:
        # libFuzzer's own mutations stay part of it: of whole inputs now and then, and of each text and byte string.
        atheris.Setup(
            arguments,
            TARGETS[name],
            custom_mutator=lambda content, most, seed: mutator(content, most, seed, atheris.Mutate),
        )
    atheris.Fuzz()


def _run(name: str, seconds: int, log: Path, *, keep: bool) -> bool:
    """Fuzz in a child process and print a line about it; False if there is a finding."""
    found = log / f"{name}.found"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(seconds), "--inside", str(found)]
    with (log / f"{name}.log").open("wb") as words:
        status = subprocess.run(command, stdout=words, stderr=subprocess.STDOUT, check=False).returncode
    end = _LAST.search((log / f"{name}.log").read_text(errors="replace"))
    if keep and status == 0:
        _keep(found, CORPUS / name)
    executions, coverage, features, inputs = end.groups() if end else ("?",) * 4
    result = "nothing found" if status == 0 and end else f"FOUND (status {status}), see {log / name}.log"
    print(
        f"{name:15} {executions:>9} executions  coverage {coverage:>5} (features {features:>5})  "
        f"corpus {inputs:>4}  {result}",
        flush=True,
    )
    return status == 0 and end is not None


def _keep(found: Path, corpus: Path) -> None:
    """Copy the smallest new inputs, as many as the corpus may have."""
    room = MOST_FILES - len(list(corpus.iterdir()))
    smallest = sorted(found.iterdir(), key=lambda path: (path.stat().st_size, path.name))
    for path in smallest[: max(0, room)]:
        shutil.copyfile(path, corpus / f"found-{path.name[:16]}")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
