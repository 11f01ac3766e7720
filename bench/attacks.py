"""What hostile updates do to the global model's accuracy, under FedAvg and each strategy that bears some, on MNIST.

    python -m bench.attacks [--data ../shared/data] [--rounds 5] [--images 6000] [--out attacks.json]

DATA is a folder that torchvision.datasets.MNIST(DATA, download=False) reads. Five members train each round from the
global model, with the product's trainer, on at most IMAGES of their shard (one epoch, batch 64, Adam 1e-3). One of them
is hostile and sends something else in every round; it knows the base, and not the others' updates. Each update goes
through the checks that a leader makes, and then into the product's strategies. No network, no envelopes and no
consensus are run: nothing of them bears on the result. Accuracy is on all 10,000 held-out images, after the last round.
All is seeded: the same command gives the same table. In the rows "skewed" the members' labels are: a Dirichlet
distribution of concentration 0.5, where most members lack some digits.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import get_args

import numpy as np

from appliance.aggregation.numbers import in_memory
from appliance.aggregation.state import parse_model, serialise_model
from appliance.aggregation.strategies import strategy_for
from appliance.aggregation.tensors import Array, Arrays, parse, serialise
from appliance.aggregation.validation import check_samples, parse_update
from appliance.training import datasets
from appliance.training.examples import Examples, Shard
from appliance.training.images import AnnTask
from appliance.training.trainer import Trainer
from appliance.words.models import MOST_SAMPLES
from appliance.words.settings import SERVER_OPTIMIZERS, Aggregation, Data, StrategyName, Training

MEMBERS = 5
SKEW = 0.5
SETTINGS = [Aggregation(name) for name in get_args(StrategyName) if name not in SERVER_OPTIMIZERS]


@dataclass(frozen=True)
class Member:
    """One who trains: on its own images, and, if it is hostile, perhaps on the same ones with wrong labels."""

    honest: Trainer
    flipped: Trainer


@dataclass(frozen=True)
class Sent:
    """An update: the bytes of its weights, and the training samples that it claims."""

    weights: bytes
    samples: int


Attack = Callable[[Member, bytes, int], Sent]
"""Makes the hostile member's update, from the base and the round."""


def train(trainer: Trainer, base: bytes, round_: int) -> Sent:
    """Return an honest update."""
    trained = trainer.train(base, round=round_, stop=Event())
    assert trained is not None
    return Sent(trained.weights, trained.samples)


def moved(member: Member, base: bytes, round_: int, factor: float) -> Sent:
    """Return the base plus ``factor`` times the step that honest training takes from it."""
    honest, layout = train(member.honest, base, round_), member.honest.layout
    start, end = parse(base, layout), parse(honest.weights, layout)
    arrays = {name: np.asarray(start[name] + np.float32(factor) * (end[name] - start[name])) for name in start}
    return Sent(serialise(arrays, layout), honest.samples)


def noise(member: Member, _base: bytes, round_: int) -> Sent:
    """Return normally distributed weights of deviation 1, which no network has after training."""
    random, layout = np.random.default_rng(round_), member.honest.layout

    def drawn(shape: tuple[int, ...]) -> Array:
        return random.standard_normal(shape, dtype=np.float32)

    return Sent(serialise({tensor.name: drawn(tensor.shape) for tensor in layout}, layout), member.honest.samples)


def flip_labels(member: Member, base: bytes, round_: int) -> Sent:
    """Return what comes of training on images whose label d is said to be 9 - d."""
    return train(member.flipped, base, round_)


ATTACKS: dict[str, Attack] = {
    "none": lambda member, base, round_: train(member.honest, base, round_),
    "sign flipped, times 10": lambda member, base, round_: moved(member, base, round_, -10.0),
    "scaled, times 100": lambda member, base, round_: moved(member, base, round_, 100.0),
    "random noise": noise,
    "labels flipped": flip_labels,
    "labels flipped, 10^12 samples": lambda *of: Sent(flip_labels(*of).weights, MOST_SAMPLES),
}
SKEWED_ATTACKS = ("none", "sign flipped, times 10", "labels flipped")

Table = dict[str, dict[str, list[float]]]
"""By attack and strategy: the accuracy after each round, the initial model's first."""


def main() -> None:
    """Run every attack against every strategy, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    began = time.monotonic()
    alike, skewed = (load_all(arguments.data, arguments.images, alpha) for alpha in (None, SKEW))
    rows = [(name, alike, attack) for name, attack in ATTACKS.items()]
    rows += [(f"skewed: {name}", skewed, ATTACKS[name]) for name in SKEWED_ATTACKS]
    accuracies: Table = {}
    for name, members, attack in rows:
        accuracies[name] = {each.strategy: run(members, attack, each, arguments.rounds) for each in SETTINGS}
        print(name, [f"{values[-1]:.2%}" for values in accuracies[name].values()], file=sys.stderr)
    seconds = time.monotonic() - began
    print(as_markdown(accuracies))
    print(f"\n{arguments.rounds} rounds, {arguments.images} images a member at most, {seconds:.0f} s")
    if arguments.out is not None:
        report = {
            "members": MEMBERS,
            "hostile": 1,
            "rounds": arguments.rounds,
            "images_of_each_member": [member.honest.samples for member in alike],
            "images_of_each_member_skewed": [member.honest.samples for member in skewed],
            "seconds": round(seconds, 1),
            "accuracy_by_round": accuracies,
        }
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def load_all(data: Path, images: int, alpha: float | None) -> list[Member]:
    """Return the members, with labels skewed by ``alpha`` unless it is None."""
    with tempfile.TemporaryDirectory() as cache:
        return [
            load(Data(source="mnist", path=data, shard=number, shards=MEMBERS, alpha=alpha), images, Path(cache))
            for number in range(MEMBERS)
        ]


def load(data: Data, images: int, cache: Path) -> Member:
    """Return a member with the first images of its shard; MNIST is in no special order."""
    shard = datasets.load(data, cache)
    training = shard.training.take(np.arange(min(images, len(shard.training))))
    flipped = Examples(training.images, 9 - training.labels)
    return Member(
        Trainer(Training(judged_samples=1), AnnTask(Shard(shard.number, training, shard.held_out))),
        Trainer(Training(judged_samples=1), AnnTask(Shard(shard.number, flipped, shard.held_out))),
    )


def run(members: list[Member], attack: Attack, settings: Aggregation, rounds: int) -> list[float]:
    """Return the global model's accuracy after each round, the initial model's first. The last member is hostile."""
    judge = members[0].honest
    model = judge.initial_model()
    accuracies = [judge.evaluate(model).accuracy]
    for round_ in range(1, rounds + 1):
        updates = [train(member.honest, model, round_) for member in members[:-1]]
        updates.append(attack(members[-1], model, round_))
        model = aggregate(judge, settings, model, updates)
        accuracies.append(judge.evaluate(model).accuracy)
    return accuracies


def aggregate(trainer: Trainer, settings: Aggregation, base: bytes, updates: list[Sent]) -> bytes:
    """Do what a leader does with the updates of a round once they are opened."""

    def base_arrays() -> Arrays:
        return parse_model(base, trainer.layout)

    strategy = strategy_for(settings, trainer.layout, base_arrays)
    for update in updates:
        check_samples(update.samples, settings.most_samples)
        strategy.add(in_memory(parse_update(update.weights, trainer.layout)), update.samples)
    return serialise_model(strategy.result(), trainer.layout)


def as_markdown(accuracies: Table) -> str:
    """Return the last accuracies, in percent, as a Markdown table."""
    lines = [["one of five sends", *(each.strategy for each in SETTINGS)], ["---"] * (len(SETTINGS) + 1)]
    for name, row in accuracies.items():
        lines.append([name, *(f"{100 * values[-1]:.2f}" for values in row.values())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
