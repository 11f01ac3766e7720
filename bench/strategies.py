"""How the global model learns under each aggregation strategy, on shards with very skewed labels; nobody is hostile.

    python -m bench.strategies [--data ../shared/data] [--alpha 0.1] [--rounds 40] [--images 2000] [--seed 0]
                               [--out FOLDER] [STRATEGY[,KEY=VALUE...] ...]

Five members train each round from the global model with the product's trainer (one epoch, batch 64, Adam 1e-3), on the
embedded digits, or on MNIST if DATA is a folder that torchvision.datasets.MNIST(DATA, download=False) reads. Updates go
through the checks that a leader makes, and then into the product's strategies; state goes from round to round in the
model's bytes. No network, no envelopes and no consensus are run. Accuracy is on all held-out images. All is seeded, so
that the same command gives the same figures. A KEY is one of ``[aggregation]``, as in ``fedavgm,momentum=0.7``, or
``proximal``, FedProx's mu.

FOLDER gets strategies.csv (a line for each strategy and round), strategies.json, and where matplotlib is installed
strategies.png: a curve for each strategy.
"""

import argparse
import csv
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np

from appliance.training import datasets
from appliance.training.examples import Shard
from appliance.training.images import AnnTask
from appliance.training.trainer import Trainer
from appliance.words.models import Metrics
from appliance.words.settings import Aggregation, Data, StrategyName, Training
from bench.attacks import MEMBERS, aggregate, train

FEDPROX = "mean,proximal=0.1"
Curves = dict[str, list[Metrics]]
"""By strategy: the metrics after each round, the initial model's first."""


def main() -> None:
    """Run every strategy, print a table, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("strategies", nargs="*", default=[*get_args(StrategyName), FEDPROX], metavar="STRATEGY")
    parser.add_argument("--data", type=Path, help="a folder with MNIST; else the embedded digits")
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--images", type=int, help="at most as many of each member's shard")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of all training")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    settings = {text: parsed(text) for text in arguments.strategies}
    began = time.monotonic()
    members = load_all(arguments.data, arguments.alpha, arguments.images, arguments.seed)
    curves: Curves = {}
    for text, (each, proximal) in settings.items():
        for member in members:
            member.set_settings(Training(seed=arguments.seed, proximal=proximal, judged_samples=1))
        curves[text] = run(members, each, arguments.rounds)
        print(text, f"{curves[text][-1].accuracy:.2%}, {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(as_markdown(curves))
    images = [member.samples for member in members]
    print(f"\n{arguments.rounds} rounds, {images} images, {time.monotonic() - began:.0f} s")
    if arguments.out is not None:
        facts = {
            "data": "digits" if arguments.data is None else "mnist",
            "alpha": arguments.alpha,
            "seed": arguments.seed,
            "images_of_each_member": images,
        }
        write(arguments.out, facts, settings, curves)


def parsed(text: str) -> tuple[Aggregation, float]:
    """Return the settings of ``NAME[,KEY=VALUE...]``, and ``proximal``.

    Raises ValidationError, as node.toml's would be refused.
    """
    name, *pairs = text.split(",")
    numbers = {key: float(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    proximal = numbers.pop("proximal", 0.0)
    settings = msgspec.convert({"strategy": name, **numbers}, Aggregation)
    if settings.unused:
        raise msgspec.ValidationError(f"{', '.join(settings.unused)}: no effect on {name}")
    return settings, proximal


def load_all(folder: Path | None, alpha: float, images: int | None, seed: int) -> list[Trainer]:
    """Return the members, with labels skewed by ``alpha``, on the first ``images`` of their shards (all if None)."""
    data = Data("digits" if folder is None else "mnist", folder, shards=MEMBERS, alpha=alpha, seed=seed)
    with tempfile.TemporaryDirectory() as cache:
        shards = [datasets.load(msgspec.structs.replace(data, shard=number), Path(cache)) for number in range(MEMBERS)]
    return [
        Trainer(
            Training(seed=seed),
            AnnTask(Shard(shard.number, shard.training.take(np.arange(len(shard.training))[:images]), shard.held_out)),
        )
        for shard in shards
    ]


def run(members: list[Trainer], settings: Aggregation, rounds: int) -> list[Metrics]:
    """Return the global model's metrics after each round, the initial model's first."""
    judge = members[0]
    model = judge.initial_model()
    metrics = [judge.evaluate(model)]
    for round_ in range(1, rounds + 1):
        model = aggregate(judge, settings, model, [train(member, model, round_) for member in members])
        metrics.append(judge.evaluate(model))
    return metrics


def as_markdown(curves: Curves) -> str:
    """Return accuracies in percent, after some rounds and the mean of the last ten, as a Markdown table."""
    rounds = len(next(iter(curves.values()))) - 1
    shown = sorted({max(1, rounds * part // 8) for part in (1, 2, 4, 8)})
    lines = [["strategy", *(f"round {each}" for each in shown), "mean of the last ten"], ["---"] * (len(shown) + 2)]
    for name, metrics in curves.items():
        percent = [100 * each.accuracy for each in metrics]
        last = percent[1:][-10:]
        lines.append([name, *(f"{percent[each]:.2f}" for each in shown), f"{sum(last) / len(last):.2f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write(
    folder: Path, facts: dict[str, object], settings: dict[str, tuple[Aggregation, float]], curves: Curves
) -> None:
    """Write the CSV, the JSON, and the plot if that is possible here."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "strategies.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("strategy", "round", "accuracy", "loss"))
        for name, metrics in curves.items():
            lines.writerows((name, number, each.accuracy, each.loss) for number, each in enumerate(metrics))
    report = {
        **facts,
        "strategies": {
            name: {
                "settings": {**msgspec.to_builtins(settings[name][0]), "proximal": settings[name][1]},
                "accuracy_by_round": [each.accuracy for each in metrics],
                "loss_by_round": [each.loss for each in metrics],
            }
            for name, metrics in curves.items()
        },
    }
    (folder / "strategies.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if importlib.util.find_spec("matplotlib") is not None:
        name = "MNIST" if facts["data"] == "mnist" else "Digits"
        plot(folder / "strategies.png", f"{name}, five shards, Dirichlet alpha {facts['alpha']}", curves)


def plot(file: Path, title: str, curves: Curves) -> None:
    """Draw accuracy by round, a curve for each strategy; what lies near 100 % is spread out."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only where it is installed

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="round", ylabel="accuracy, %", yscale="logit")
    for number, (name, metrics) in enumerate(curves.items()):
        # Ten colours, and then the same ones dashed.
        style = "-" if number < 10 else "--"
        # A logit knows neither 0 nor 1.
        accuracies = [min(max(each.accuracy, 0.01), 0.999) for each in metrics]
        axes.plot(accuracies, style, color=f"C{number % 10}", label=name, linewidth=1.2)
    percents = [5, 10, 20, 40, 60, 80, 90, 95, 97, 98, 99]
    axes.set_yticks([each / 100 for each in percents], [str(each) for each in percents])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
