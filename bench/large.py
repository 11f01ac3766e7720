"""A round of a large model, as its aggregator lives it: seconds and memory of each phase.

    python -m bench.large [--millions 100] [--members 5] [--rounds 2] [--strategy mean] [--out FILE]

``bench.large_cluster`` runs such a model on real nodes, whose phases overlap. This is the aggregator's work by itself
(``AggregatorWork``: the very code of a node's aggregator thread) on a model of so many parameters, in a process of its
own, one phase after another. Another process is all the members: it has no training but random weights, seals each
update as a node does (``ParticipantWork``, tokens and all), and opens what the aggregator answers. Between them are
files instead of the mesh, so what a mesh holds beside (an envelope that comes while another one is opened) is not in
the figures, and neither is what training and judging need.

- arrive: an update's envelope is in memory, as it would be from the mesh;
- open: the envelope is opened, its token and its content are checked;
- count: the update is added to the round's;
- answer: its receipt is sealed;
- aggregate: the updates become a candidate, durable on the disk;
- seal: the candidate is sealed once, for all;
- store: a member opens that and makes it durable.

Memory is what the kernel saw at most (VmHWM, set back before each phase), beyond what the process held before the
round, in MB and in models. A Markdown table on standard output, JSON in FILE, progress on standard error.
"""

import argparse
import contextlib
import ctypes
import json
import multiprocessing
import secrets
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import cast, get_args

import numpy as np

from appliance.aggregation.tensors import serialise
from appliance.envelopes.format import parse_header
from appliance.envelopes.pool import KeyPool
from appliance.node.aggregator_work import AggregatorWork
from appliance.node.checkpoints import Checkpoints
from appliance.node.encoder import Encoder
from appliance.node.participant_work import OpenedReceipt, ParticipantWork
from appliance.rounds.collected import OpenedUpdate
from appliance.storage.checkpoints import CheckpointStore
from appliance.storage.models import KeptUpdate, ModelStore, ResidualStore, UpdateStore
from appliance.tokens.wallet import Wallet
from appliance.training.trainer import Trainer
from appliance.words.clock import system_clock
from appliance.words.ids import Digest
from appliance.words.messages import Announcement
from appliance.words.models import Metrics, ModelLayout, TensorLayout
from appliance.words.settings import Aggregation, StrategyName, Training
from bench import alone

PHASES = ("arrive", "open", "count", "answer", "aggregate", "seal", "store")
SIDE = 1000
"""Each tensor is a square of a million numbers: large models are many tensors, not one."""
SAMPLES = 12_000
RSA_BITS = 3072
_M_ARENA_MAX = -8


@dataclass(frozen=True, slots=True)
class Phase:
    """What one phase of one round took.

    Attributes:
        seconds: of all updates together.
        peak_mb: the most that was held beyond what was held before the round.
    """

    seconds: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class Opening:
    """What the members need to know of a round."""

    number: int
    base: Digest
    announcement: Announcement
    token_key: bytes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=100, help="parameters, in millions")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--strategy", choices=get_args(StrategyName), default="mean")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    arguments = parser.parse_args()
    alone.exit_when_terminated()
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)  # as a node does
    before = alone.load()
    rounds = _measure(arguments)
    megabytes = arguments.millions * 4.0
    print(
        f"{arguments.millions} M parameters ({megabytes:,.0f} MB), {arguments.members} members, {arguments.strategy}, "
        f"{arguments.rounds} rounds; load {before:.1f} to {alone.load():.1f}\n\n{table(rounds, megabytes)}"
    )
    if arguments.out is not None:
        report = [{name: {"s": one.seconds, "mb": one.peak_mb} for name, one in phases.items()} for phases in rounds]
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


def table(rounds: Sequence[Mapping[str, Phase]], model_mb: float) -> str:
    """Return the phases of a round as a Markdown table: median seconds, and the most memory, over the rounds."""
    lines = ["| phase | s a round | peak beyond before, MB | in models |", "|---|---|---|---|"]
    of_aggregator = []
    for name in PHASES:
        seconds = statistics.median(phases[name].seconds for phases in rounds)
        if name == "store":
            lines.append(f"| {name} (at a member) | {seconds:.2f} | | |")
            continue
        peak = max(phases[name].peak_mb for phases in rounds)
        of_aggregator.append(peak)
        lines.append(f"| {name} | {seconds:.2f} | {peak:,.0f} | {peak / model_mb:.2f} |")
    peak = max(of_aggregator)
    seconds = statistics.median(sum(phases[name].seconds for name in PHASES) for phases in rounds)
    lines.append(f"| all | {seconds:.2f} | {peak:,.0f} | **{peak / model_mb:.2f}** |")
    return "\n".join(lines)


def layout_of(millions: int) -> ModelLayout:
    """Return the layout of a model of so many million parameters."""
    return tuple(TensorLayout(f"tensor{number:05}", "F32", (SIDE, SIDE)) for number in range(millions))


def model_of(layout: ModelLayout, seed: int) -> bytes:
    """Return random weights."""
    random = np.random.default_rng(seed)
    return serialise({tensor.name: random.standard_normal(tensor.shape, np.float32) for tensor in layout}, layout)


def _trainer_of(layout: ModelLayout, seed: int) -> Trainer:
    """Return what stands for the trainer: the work that is measured asks it for the layout and the first model."""
    stub = SimpleNamespace(layout=layout, initial_model=lambda: model_of(layout, seed))
    return cast(Trainer, stub)


def _measure(arguments: argparse.Namespace) -> list[dict[str, Phase]]:
    here, there = multiprocessing.get_context("spawn").Pipe()
    layout = layout_of(arguments.millions)
    with tempfile.TemporaryDirectory(prefix="p2pfl-large-") as folder:
        members = multiprocessing.get_context("spawn").Process(
            target=_be_members, args=(there, Path(folder), layout, arguments.members), daemon=True
        )
        members.start()
        there.close()
        try:
            with KeyPool(4, RSA_BITS) as keys:
                return list(_rounds(arguments, here, Path(folder), layout, keys))
        finally:
            members.kill()
            members.join()


def _rounds(
    arguments: argparse.Namespace, members: Connection, folder: Path, layout: ModelLayout, keys: KeyPool
) -> Iterator[dict[str, Phase]]:
    models = ModelStore(folder / "leader")
    settings = Aggregation(strategy=arguments.strategy)
    work = AggregatorWork(
        _trainer_of(layout, 0), models, keys, secrets.token_bytes, settings, folder=folder / "collected"
    )
    base = work.create_initial_model()
    key_id, public_key = work.begin(1)
    announcement = Announcement(cluster="bench", leader="node0", term=1, key_id=key_id, public_key=public_key)
    for number in range(1, arguments.rounds + 1):
        meter = Meter()
        opening = Opening(number, base, announcement, work.start_round(number, base, "float32"))
        for member in range(arguments.members):
            members.send((member, opening))
            members.send(work.sign_token(f"node{member}", members.recv()).signature)
            _count_one(work, Path(members.recv()), folder / "answer", meter)
            members.send("answered")
            _say(f"round {number}: update {member + 1} of {arguments.members}")
        with meter.of("aggregate"):
            candidate = work.aggregate()
        with meter.of("seal"):
            sealed = work.seal_candidate(candidate)
        (folder / "candidate").write_bytes(sealed)
        del sealed
        members.send((None, candidate))
        stored_s = members.recv()
        models.doom([base])
        models.sweep()
        base = candidate
        yield {**meter.phases(), "store": Phase(stored_s, 0.0)}


def _count_one(work: AggregatorWork, path: Path, answer: Path, meter: "Meter") -> None:
    with meter.of("arrive"):
        envelope = path.read_bytes()
    with meter.of("open"):
        opened = work.open(envelope)
    del envelope
    if not isinstance(opened, OpenedUpdate) or opened.refusal:
        raise SystemExit(f"an update was refused: {opened}")
    with meter.of("count"):
        work.count(opened.handle)
    with meter.of("answer"):
        sealed = work.answer(opened.handle, accepted=True, reason="")
    assert sealed is not None
    answer.write_bytes(sealed.envelope)


def _be_members(leader: Connection, folder: Path, layout: ModelLayout, count: int) -> None:
    """All members, one after another; ends with the leader's process."""
    with KeyPool(4, RSA_BITS) as keys, contextlib.suppress(EOFError):
        models = ModelStore(folder / "member")
        updates = UpdateStore(folder / "update")
        members = [
            ParticipantWork(
                _trainer_of(layout, 0),
                models,
                updates,
                keys,
                secrets.token_bytes,
                encoder=Encoder(layout, models, ResidualStore(folder / "update")),
                checkpoints=Checkpoints(CheckpointStore(folder / "training"), system_clock),
                training=Training(),
                wallet=Wallet(secrets.token_bytes(32)),
            )
            for _ in range(count)
        ]
        round_key = b""
        while True:
            member, what = leader.recv()
            if member is not None:
                round_key = _deliver(members[member], member, what, leader, folder, layout, updates)
                continue
            began = time.perf_counter()
            members[0].store_candidate((folder / "candidate").read_bytes(), round_key, what)
            leader.send(time.perf_counter() - began)
            models.doom(models.digests() - {what})
            models.sweep()


def _deliver(
    work: ParticipantWork,
    member: int,
    opening: Opening,
    leader: Connection,
    folder: Path,
    layout: ModelLayout,
    updates: UpdateStore,
) -> bytes:
    """Seal an update into a file; return the round key from the receipt."""
    update_id = secrets.token_bytes(16)
    weights = model_of(layout, opening.number * 1000 + member)
    updates.put(
        KeptUpdate(update_id, opening.number, opening.base, SAMPLES, Metrics(0.5, 1.0, 10), memoryview(weights))
    )
    del weights
    leader.send(work.ask_token(1, opening.number, opening.token_key).blinded)
    work.take_token(opening.token_key, leader.recv())
    sealed = work.seal_update(update_id, opening.announcement, opening.token_key, "float32")
    assert sealed is not None
    (folder / "envelope").write_bytes(sealed.envelope)
    leader.send(str(folder / "envelope"))
    leader.recv()
    answer = (folder / "answer").read_bytes()
    receipt = work.open_answer(answer, parse_header(answer).key_id)
    assert isinstance(receipt, OpenedReceipt)
    return receipt.receipt.round_key


class Meter:
    """Seconds and memory of this process in the phases of one round."""

    def __init__(self) -> None:
        self._before = _kb("VmRSS")
        self._seconds: dict[str, float] = defaultdict(float)
        self._peak: dict[str, int] = defaultdict(int)

    @contextlib.contextmanager
    def of(self, phase: str) -> Iterator[None]:
        """Measure what happens in the context."""
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is held now (proc(5))
        began = time.perf_counter()
        yield
        self._seconds[phase] += time.perf_counter() - began
        self._peak[phase] = max(self._peak[phase], _kb("VmHWM") - self._before)

    def phases(self) -> dict[str, Phase]:
        """Return what was measured."""
        return {name: Phase(seconds, self._peak[name] * 1024 / 1e6) for name, seconds in self._seconds.items()}


def _kb(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
