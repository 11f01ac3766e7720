"""Sealing and opening, against bare AES-256-GCM on the same bytes in the same run; and the memory that it takes.

    python -m bench.envelopes [--sizes 1.6 400] [--repeat 5]

MB/s of the model's bytes, the best of REPEAT. *Bare* is one call of AES-256-GCM for the whole model: ``encrypt``, which
makes the buffer that it returns, and ``encrypt_into`` one that is there already. *In memory* makes a whole envelope, or
a whole model, as a node does: beside it stands ``encrypt``, since a fresh buffer costs more than the cipher.
*Streaming* takes the bytes in pieces of 1 MiB and gives them out in chunks: beside it stands ``encrypt_into``. What the
wrapped key alone costs, whatever the size, is measured on an empty payload.

Peak memory is of a process of its own for each: by how much its resident anonymous memory grew at most, in memory with
the model or the envelope there before, streaming from file to file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from appliance.envelopes.format import Kind
from appliance.envelopes.keys import PrivateKey, Suite, private_key
from appliance.envelopes.seal import content_key_of, new_header, open_envelope, seal
from appliance.envelopes.streaming import Opener, seal_pieces

MB = 10**6
PIECE = 1024 * 1024
SUITES: tuple[Suite, ...] = ("rsa", "rsa+mlkem768")
WORK = ("seal in memory", "open in memory", "seal streaming", "open streaming")


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1.6, 400.0], help="of the model, in MB")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(peak_of(arguments.memory[0], int(float(arguments.memory[1]) * MB)))
        return
    keys = {suite: private_key(generate_private_key(65537, 3072), suite) for suite in SUITES}
    for suite, key in keys.items():
        print(f"{suite}, an empty payload: {fixed_costs(key)}")
    columns = ("model", "suite", "encrypt", *WORK[:2], "encrypt_into", *WORK[2:], "memory : bare", "streaming : bare")
    print("\n| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for size in arguments.sizes:
        for suite in SUITES:
            print(row(size, suite, keys[suite], arguments.repeat), flush=True)
    print("\n| " + " | ".join(("model", *WORK)) + " |\n|---|---|---|---|---|")
    for size in arguments.sizes:
        peaks = [_in_a_child(work, size) for work in WORK]
        print(f"| {size:g} MB | " + " | ".join(f"{peak:.1f} MB" for peak in peaks) + " |", flush=True)


def row(size: float, suite: Suite, key: PrivateKey, repeat: int) -> str:
    """Return a line of the table of speeds."""
    model = os.urandom(int(size * MB))
    envelope = seal(model, key.recipient, kind=Kind.TO_LEADER, term=1, round=1)
    out, cipher, nonce = bytearray(len(model) + 16), AESGCM(bytes(32)), bytes(12)
    jobs: list[Callable[[], object]] = [
        lambda: cipher.encrypt(nonce, model, None),
        lambda: seal(model, key.recipient, kind=Kind.TO_LEADER, term=1, round=1),
        lambda: open_envelope(envelope, key),
        lambda: cipher.encrypt_into(nonce, model, None, out),
        lambda: seal_away(model, key),
        lambda: open_away(envelope, key),
    ]
    # They take turns, so that whatever else the machine does hits all alike.
    best = [float("inf")] * len(jobs)
    for _ in range(repeat):
        for number, job in enumerate(jobs):
            began = time.perf_counter()
            job()
            best[number] = min(best[number], time.perf_counter() - began)
    speeds = [size / seconds for seconds in best]
    ratios = min(speeds[1:3]) / speeds[0], min(speeds[4:]) / speeds[3]
    cells = " | ".join(f"{speed:,.0f}" for speed in speeds)
    return f"| {size:g} MB | {suite} | {cells} | {ratios[0]:.2f} | {ratios[1]:.2f} |"


def fixed_costs(key: PrivateKey, times: int = 200) -> str:
    """Return what an envelope costs before its first byte of content."""
    began = time.perf_counter()
    for _ in range(times):
        envelope = seal(b"", key.recipient, kind=Kind.TO_LEADER, term=1, round=1)
    sealed = time.perf_counter()
    for _ in range(times):
        open_envelope(envelope, key)
    opened = time.perf_counter()
    return f"seal {1000 * (sealed - began) / times:.2f} ms, open {1000 * (opened - sealed) / times:.2f} ms"


def seal_away(model: bytes, key: PrivateKey) -> None:
    """Seal a model piece by piece, and let each chunk go."""
    content_key, header = new_header(key.recipient, kind=Kind.TO_LEADER, term=1, round_=1)
    view = memoryview(model)
    pieces = (view[start : start + PIECE] for start in range(0, len(view), PIECE))
    for _ in seal_pieces(pieces, content_key, header):
        pass


def open_away(envelope: bytes, key: PrivateKey) -> None:
    """Open an envelope piece by piece, and let each chunk go."""
    opener, view = Opener(lambda header: content_key_of(header, key)), memoryview(envelope)
    for start in range(0, len(view), PIECE):
        opener.feed(view[start : start + PIECE])
    opener.finish()


def pieces_of(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes."""
    with path.open("rb") as source:
        while piece := source.read(PIECE):
            yield piece


def seal_file(source: Path, target: Path, key: PrivateKey) -> None:
    """Seal a file to a file."""
    content_key, header = new_header(key.recipient, kind=Kind.TO_LEADER, term=1, round_=1)
    with target.open("wb") as out:
        for piece in seal_pieces(pieces_of(source), content_key, header):
            out.write(piece)


def open_file(source: Path, target: Path, key: PrivateKey) -> None:
    """Open a file to a file."""
    opener = Opener(lambda header: content_key_of(header, key))
    with target.open("wb") as out:
        for piece in pieces_of(source):
            out.writelines(opener.feed(piece))
        out.write(opener.finish())


def _in_a_child(work: str, size: float) -> float:
    command = [sys.executable, "-m", "bench.envelopes", "--memory", work, str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_of(work: str, size: int) -> float:
    """Return by how many MB this process's anonymous memory grew at most while it did the work."""
    key = private_key(generate_private_key(65537, 3072), "rsa")
    with tempfile.TemporaryDirectory() as folder:
        source, sealed, opened = (Path(folder) / name for name in ("model", "envelope", "opened"))
        with source.open("wb") as out:
            for start in range(0, size, PIECE):
                out.write(os.urandom(min(PIECE, size - start)))
        seal_file(source, sealed, key)
        jobs: dict[str, Callable[[bytes], object]] = {
            "seal in memory": lambda held: seal(held, key.recipient, kind=Kind.TO_LEADER, term=1, round=1),
            "open in memory": lambda held: open_envelope(held, key),
            "seal streaming": lambda _: seal_file(source, sealed, key),
            "open streaming": lambda _: open_file(sealed, opened, key),
        }
        held = {"seal in memory": source, "open in memory": sealed}.get(work)
        content = b"" if held is None else held.read_bytes()
        with Watch() as watch:
            jobs[work](content)
        return watch.grown / MB


class Watch:
    """Looks at this process's anonymous memory each millisecond."""

    def __enter__(self) -> "Watch":
        self._over = threading.Event()
        self._begin = self._most = _anonymous()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        """By how many bytes it grew at most."""
        return self._most - self._begin

    def _look(self) -> None:
        while not self._over.wait(0.001):
            self._most = max(self._most, _anonymous())


def _anonymous() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


if __name__ == "__main__":
    main()
