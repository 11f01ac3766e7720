"""What the encodings of updates cost in accuracy and save in bytes, on MNIST.

    python -m bench.compression DATA [--rounds 10] [--out compression.json]

DATA is a folder that torchvision.datasets.MNIST(DATA, download=False) reads. Five members train each round from the
global model on their shards of 12,000 images (one epoch, batch 64, Adam 1e-3): the product's trainer, codec and
FedAvg, with the residuals that each member keeps. No network and no consensus are run: nothing of them bears on the
accuracy, which is judged on all 10,000 held-out images. An update is also sealed, padded, as a member seals it
(RSA-3072). All is seeded: the same command gives the same accuracies.
"""

import argparse
import json
import secrets
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event
from typing import get_args

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from appliance.aggregation.encoding import check, encode
from appliance.aggregation.fedavg import FedAvg
from appliance.aggregation.numbers import in_memory
from appliance.aggregation.tensors import Arrays, parse, serialise
from appliance.delivery.padding import pad, padded_length
from appliance.envelopes.format import Kind
from appliance.envelopes.keys import load_recipient, public_der
from appliance.envelopes.seal import seal
from appliance.training import datasets
from appliance.training.images import AnnTask
from appliance.training.trainer import Trainer
from appliance.words import messages
from appliance.words.ids import digest_of
from appliance.words.models import Encoding
from appliance.words.settings import Data, Training

MEMBERS = 5
_KEY, _REPLY_KEY = (public_der(generate_private_key(65537, bits)) for bits in (3072, 2048))


@dataclass
class Result:
    """One way of sending updates.

    Attributes:
        accuracies: of the global model after each round, the initial model's first.
        update_bytes, envelope_bytes: of each update, encoded, and sealed and padded as it travels.
        encode_s, decode_s: for each update.
    """

    name: str
    accuracies: list[float] = field(default_factory=list)
    update_bytes: set[int] = field(default_factory=set)
    envelope_bytes: set[int] = field(default_factory=set)
    encode_s: list[float] = field(default_factory=list)
    decode_s: list[float] = field(default_factory=list)


def main() -> None:
    """Train by each encoding, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    members = load_all(arguments.data)
    ways: list[tuple[Encoding, bool]] = [(encoding, True) for encoding in get_args(Encoding)]
    ways.append(("int8", False))
    results = [run(members, encoding, arguments.rounds, feedback=feedback) for encoding, feedback in ways]
    print(as_markdown(results))
    if arguments.out is not None:
        report = {result.name: {**asdict(result), "update_bytes": max(result.update_bytes)} for result in results}
        arguments.out.write_text(json.dumps(report, indent=2, default=sorted) + "\n", encoding="utf-8")


def load_all(data: Path) -> list[Trainer]:
    """Return the members."""
    with tempfile.TemporaryDirectory() as cache:
        shards = [
            datasets.load(Data(source="mnist", path=data, shard=number, shards=MEMBERS), Path(cache))
            for number in range(MEMBERS)
        ]
    return [Trainer(Training(judged_samples=1), AnnTask(shard)) for shard in shards]


def run(members: list[Trainer], encoding: Encoding, rounds: int, *, feedback: bool) -> Result:
    """Train for some rounds; without ``feedback`` each member forgets what its encoding lost."""
    result = Result(encoding if feedback else f"{encoding}, without feedback")
    judge = members[0]
    layout = judge.layout
    residuals: list[Arrays | None] = [None] * len(members)
    model = judge.initial_model()
    result.accuracies.append(judge.evaluate(model).accuracy)
    for round_ in range(1, rounds + 1):
        base, mean = parse(model, layout), FedAvg(layout)
        for number, member in enumerate(members):
            trained = member.train(model, round=round_, stop=Event())
            assert trained is not None
            began = time.perf_counter()
            content, lost = encode(parse(trained.weights, layout), base, layout, encoding, residuals[number])
            result.encode_s.append(time.perf_counter() - began)
            residuals[number] = lost if feedback else None
            began = time.perf_counter()
            mean.add(check(content, layout, encoding).restored(in_memory(base)), trained.samples)
            result.decode_s.append(time.perf_counter() - began)
            result.update_bytes.add(len(content))
            update = messages.Update(
                update_id=secrets.token_bytes(16),
                nonce=secrets.token_bytes(32),
                token=bytes(384),
                round=round_,
                base=digest_of(model),
                samples=trained.samples,
                metrics=trained.metrics,
                reply_key=_REPLY_KEY,
                reply_secret=secrets.token_bytes(32),
                encoding=encoding,
                weights=memoryview(content),
            )
            result.envelope_bytes.add(len(sealed(update)))
        model = serialise(mean.result(), layout)
        result.accuracies.append(judge.evaluate(model).accuracy)
        print(f"{result.name}, round {round_}: {result.accuracies[-1]:.2%}", file=sys.stderr)
    return result


def sealed(update: messages.Update) -> bytes:
    """Return the envelope in which an update travels."""
    content = b"".join(pad(padded_length(len(update.weights)), messages.encode(update)))
    return seal(content, load_recipient(_KEY, "rsa"), kind=Kind.TO_LEADER, term=1, round=update.round)


def as_markdown(results: list[Result]) -> str:
    """Return accuracies in percent, sizes and times, as two Markdown tables."""
    rounds = range(len(results[0].accuracies))
    lines = [["round", *(str(round_) for round_ in rounds)], ["---"] * (len(rounds) + 1)]
    lines += [[result.name, *(f"{100 * accuracy:.2f}" for accuracy in result.accuracies)] for result in results]
    first = max(results[0].envelope_bytes)
    lines += [[""], ["encoding", "update, bytes", "sealed, bytes", "of float32", "encode, ms", "decode and add, ms"]]
    lines.append(["---"] * 6)
    for result in results[: len(get_args(Encoding))]:
        assert len(result.envelope_bytes) == 1, "the length of an envelope tells something of its content"
        size = max(result.envelope_bytes)
        times = [f"{1000 * statistics.median(each):.1f}" for each in (result.encode_s, result.decode_s)]
        row = [result.name, f"{max(result.update_bytes):,}", f"{size:,}", f"{size / first:.3f}", *times]
        lines.append(row)
    return "\n".join("" if line == [""] else f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
