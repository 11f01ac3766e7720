"""Break a copy of the code in each way of the catalogue, and see that something notices. Fails if nothing does.

``python -m tests.mutations [--only NAME] [--seeds N]`` prints a table (Markdown), and exits with 1 if one survives.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.checks import Caught, Checks, checks_for
from tests.mutations.mutation import Mutation

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("appliance", "tests", "pyproject.toml")
WORKERS = 2


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the code, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, Path(folder) / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / part, folder)
        yield Path(folder)


def examine(mutation: Mutation, checks: Checks) -> tuple[Caught | None, float]:
    """Return what caught a mutation, if anything did, and the seconds that it took."""
    start = time.perf_counter()
    with copied() as root:
        mutation.apply(root)
        for check in checks_for(mutation.file):
            caught = checks.run(check, root)
            if caught is not None:
                break
    return caught, time.perf_counter() - start


def unbroken(wanted: list[Mutation], checks: Checks) -> list[str]:
    """Return which checks fail on the code as it is: they would catch everything, and say nothing."""
    with copied() as root:
        all_checks = dict.fromkeys(check for mutation in wanted for check in checks_for(mutation.file))
        failed = [checks.run(check, root) for check in all_checks]
    return [f"{caught.by}: {caught.how}" for caught in failed if caught is not None]


def tell(wanted: list[Mutation], checks: Checks) -> list[Mutation]:
    """Examine mutations, print the table as it grows, and return those that nothing caught."""
    print("| mutation | file | caught by | how | s |\n|---|---|---|---|---|", flush=True)
    survivors: list[Mutation] = []
    pool = ThreadPoolExecutor(WORKERS)
    try:
        examined = pool.map(lambda mutation: examine(mutation, checks), wanted)
        for mutation, (caught, seconds) in zip(wanted, examined, strict=True):
            by, how = ("NOTHING", mutation.why) if caught is None else (caught.by, caught.how)
            file = mutation.file.removeprefix("appliance/")
            print(f"| {mutation.name} | {file} | {by} | {how.replace('|', '/')[:140]} | {seconds:.0f} |", flush=True)
            survivors += [mutation] if caught is None else []
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return survivors


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="those whose name or file contains this")
    parser.add_argument("--seeds", type=int, default=2000, help="histories for each (default: 2000)")
    options = parser.parse_args()
    wanted = [m for m in MUTATIONS if options.only is None or options.only in m.name or options.only in m.file]
    if not wanted:
        parser.error(f"no mutation is called {options.only}")
    os.nice(5)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    checks = Checks(options.seeds)
    try:
        if broken := unbroken(wanted, checks):
            print("the checks fail on the code as it is:", *broken, sep="\n", file=sys.stderr)
            return 2
        survivors = tell(wanted, checks)
    except BaseException:
        checks.stop()
        raise
    print(f"\n{len(wanted)} mutations, {len(survivors)} of them not caught", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
