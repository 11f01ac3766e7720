"""How far accuracy falls from one round to the next where nobody is hostile: what ``aggregation.most_drop`` goes by.

    python -m bench.drops [--data ../shared/data] [--rounds 40]

Five members train each round from the global model with the product's trainer (one epoch, batch 64), on the digits
that ship with the package, or on MNIST if DATA names a folder of it; the mean is the product's. A row is a learning
rate and a skew of the labels (a Dirichlet distribution's concentration; "none": alike). It tells the greatest fall in
one round, how many rounds fell by more than 0.05 and 0.10, and the accuracy at the end, all on the held-out images.
Nothing is withheld. All is seeded: the same command gives the same table.
"""

import argparse
import itertools
import tempfile
from pathlib import Path
from threading import Event

import numpy as np

from appliance.aggregation.numbers import in_memory
from appliance.aggregation.strategies import strategy_for
from appliance.aggregation.tensors import parse, serialise
from appliance.training import datasets
from appliance.training.images import AnnTask
from appliance.training.trainer import Trainer
from appliance.words.settings import Aggregation, Data, Training

MEMBERS = 5
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
SKEWS = (None, 1.0, 0.3, 0.1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    print("| learning rate | labels | greatest fall | rounds > 0.05 | rounds > 0.10 | at the end |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        for rate, skew in itertools.product(RATES, SKEWS):
            accuracies = run(arguments.data, Path(cache), rate, skew, arguments.rounds)
            falls = -np.diff(accuracies)
            print(
                f"| {rate:g} | {skew or 'none'} | {max(0.0, falls.max()):.3f} | {(falls > 0.05).sum()} "
                f"| {(falls > 0.10).sum()} | {accuracies[-1]:.3f} |",
                flush=True,
            )


def run(data: Path | None, cache: Path, rate: float, skew: float | None, rounds: int) -> list[float]:
    """Return the accuracy of the initial model, and after each round."""
    members = []
    for number in range(MEMBERS):
        source = Data(source="mnist" if data else "digits", path=data, shard=number, shards=MEMBERS, alpha=skew)
        members.append(Trainer(Training(learning_rate=rate, judged_samples=1), AnnTask(datasets.load(source, cache))))
    layout, model = members[0].layout, members[0].initial_model()
    accuracies = [members[0].evaluate(model).accuracy]
    for round_ in range(1, rounds + 1):
        base = parse(model, layout)
        strategy = strategy_for(Aggregation(), layout, lambda base=base: base)  # type: ignore[misc]
        for member in members:
            trained = member.train(model, round=round_, stop=Event())
            assert trained is not None
            strategy.add(in_memory(parse(trained.weights, layout)), trained.samples)
        model = serialise(strategy.result(), layout)
        accuracies.append(members[0].evaluate(model).accuracy)
    return accuracies


if __name__ == "__main__":
    main()
