"""Figures 5 and 6: loss and accuracy of the global model against Adam's learning rate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from appliance.experiment.laboratory import ALL_HELD_OUT, NODES, Laboratory, begin_anew
from appliance.experiment.result import Chart, Line, Result, Table
from appliance.local.processes import Cluster
from appliance.local.watch import statuses, until
from appliance.node.cluster import ClusterPlan
from appliance.operator_api.views import UpdateView
from appliance.words.ids import NodeName
from appliance.words.models import GlobalModel
from appliance.words.settings import Aggregation, Delivery, Rounds, Training

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
BATCH_SIZE, DIGITS_EPOCHS = 64, 5
WITHIN_S, LOOK_EVERY_S = 300.0, 0.1
DIVERGED = "diverged"


class Trial(Struct, frozen=True):
    """What one learning rate gave.

    Attributes:
        models: the global models of its rounds, the fresh network first.
        updates: the participants' updates of the last round, as far as they were seen.
        diverged: training ended in numbers that are none, as the nodes said; ``models`` are those before it.
    """

    rate: float
    models: list[GlobalModel]
    updates: list[UpdateView]
    diverged: bool


def learning_rate(laboratory: Laboratory, rounds: int) -> Result:
    """Train a fresh network at each learning rate, for some rounds of five nodes. Raises OperatorError."""
    epochs = 1 if laboratory.is_mnist else DIGITS_EPOCHS
    files: list[Path] = []
    trials = []
    for number, rate in enumerate(RATES):
        laboratory.reporter.step(f"learning rate {rate:g}", number, len(RATES))
        training = Training(learning_rate=rate, epochs=epochs, batch_size=BATCH_SIZE, judged_samples=ALL_HELD_OUT)
        if files:
            begin_anew(files, training)
        else:
            files = laboratory.new_cluster(_plan(laboratory, training))
        with laboratory.running(files) as cluster:
            trial = _watched(cluster, rate, rounds)
            cluster.stop()
        last = trial.models[-1]
        outcome = "training diverged" if trial.diverged else f"accuracy {last.accuracy:.2%}, loss {last.loss:.4f}"
        laboratory.reporter.say(f"learning rate {rate:g}: {outcome}")
        trials.append(trial)
    return result_of(trials, rounds, epochs, is_mnist=laboratory.is_mnist)


def _plan(laboratory: Laboratory, training: Training) -> ClusterPlan:
    return ClusterPlan(
        nodes=NODES,
        data=laboratory.data,
        training=training,
        rounds=Rounds(quorum=NODES, interval_s=0.0),
        # What a rate that is too high does to the model is to be seen, and not withheld.
        aggregation=Aggregation(most_drop=1.0),
        delivery=Delivery(window_s=0.2),
    )


def _watched(cluster: Cluster, rate: float, rounds: int) -> Trial:
    """Watch until the rounds are committed, or a node says that training diverged."""
    updates: dict[NodeName, UpdateView] = {}

    def trial() -> Trial | None:
        seen = statuses(cluster.nodes)
        last = {status.node: status.update for status in seen if status.update is not None}
        updates.update({node: update for node, update in last.items() if update.round == rounds})
        diverged = any(DIVERGED in fault for status in seen for fault in status.faults)
        done = any(status.model is not None and status.model.version >= rounds for status in seen)
        if not done and not diverged:
            return None
        lineage = max((node.lineage() for node in cluster.nodes), key=len)
        return Trial(rate, lineage[: rounds + 1], list(updates.values()), diverged and len(lineage) <= rounds)

    return until(trial, f"{rounds} rounds", WITHIN_S, LOOK_EVERY_S)


# --- what it means (pure) ---------------------------------------------------------------------------------------------


def result_of(trials: Sequence[Trial], rounds: int, epochs: int, *, is_mnist: bool) -> Result:
    """Sum up the sweep."""
    data = "MNIST" if is_mnist else "the embedded digits"
    sound = [trial for trial in trials if not trial.diverged]
    best = max(sound, key=lambda trial: trial.models[-1].accuracy)
    least = min(sound, key=lambda trial: trial.models[-1].loss)
    is_between = trials[0].rate < best.rate < trials[-1].rate
    return Result(
        name="learning-rate",
        title="Figures 5 and 6: loss and accuracy against the learning rate",
        method=[
            f"For each learning rate five node processes train the same fresh network on {data}, each on its fifth of "
            f"the training images, for {rounds} rounds of {epochs} epoch{'s' if epochs > 1 else ''}: Adam, batches of "
            f"{BATCH_SIZE}, its moments new in each round. Figures are those of the committed global model, and the "
            "mean of the five updates that it was made of, all on the same held-out images.",
            "Of the paper's Figures 5 and 6 only the axes are known here: there are no values of it to set beside.",
        ],
        findings=[
            f"The best accuracy after {rounds} rounds is {best.models[-1].accuracy:.2%}, at learning rate "
            f"{best.rate:g}; the least loss {least.models[-1].loss:.4f}, at {least.rate:g}.",
            f"At the ends of the sweep: {_outcome(trials[0])} at {trials[0].rate:g}, {_outcome(trials[-1])} at "
            f"{trials[-1].rate:g}." + ("" if is_between else " NOT shown: a best rate between them."),
        ],
        reached=is_between,
        settings={
            "data": "mnist" if is_mnist else "digits",
            "rounds": rounds,
            "epochs": epochs,
            "batch_size": BATCH_SIZE,
        },
        rows=[
            {
                "learning_rate": trial.rate,
                "round": model.round,
                "accuracy": model.accuracy,
                "loss": model.loss,
                "updates": model.updates,
                "participants_accuracy": _local(trial, "accuracy") if model.round == rounds else None,
                "participants_loss": _local(trial, "loss") if model.round == rounds else None,
            }
            for trial in trials
            for model in trial.models
        ],
        tables=[_table(trials, rounds)],
        figures=[
            _chart(trials, rounds, name="learning-rate-loss", what="loss", data=data),
            _chart(trials, rounds, name="learning-rate-accuracy", what="accuracy", data=data),
        ],
    )


def _local(trial: Trial, what: Literal["accuracy", "loss"]) -> float | None:
    """Return the participants' mean in the last round; None if nothing of it was seen."""
    values = [getattr(update, what) for update in trial.updates]
    return sum(values) / len(values) if values else None


def _outcome(trial: Trial) -> str:
    return DIVERGED if trial.diverged else f"{trial.models[-1].accuracy:.2%}"


def _at(trial: Trial, round_: int) -> GlobalModel | None:
    return trial.models[round_] if round_ < len(trial.models) else None


def _table(trials: Sequence[Trial], rounds: int) -> Table:
    def row(trial: Trial) -> tuple[str, ...]:
        model, loss, accuracy = _at(trial, rounds), _local(trial, "loss"), _local(trial, "accuracy")
        return (
            f"{trial.rate:g}",
            DIVERGED if model is None else f"{model.loss:.4f}",
            DIVERGED if model is None else f"{model.accuracy:.2%}",
            "" if loss is None else f"{loss:.4f}",
            "" if accuracy is None else f"{accuracy:.2%}",
        )

    headings = "learning rate", "global: loss", "accuracy", "participants: loss", "accuracy"
    return Table(f"Round {rounds} by learning rate", headings, [row(trial) for trial in trials])


def _chart(trials: Sequence[Trial], rounds: int, *, name: str, what: Literal["accuracy", "loss"], data: str) -> Chart:
    rates = [trial.rate for trial in trials]
    is_loss = what == "loss"

    def shown(value: float | None) -> float | None:
        return value if value is None or is_loss else 100 * value

    def of(round_: int) -> list[float | None]:
        models = [_at(trial, round_) for trial in trials]
        return [None if model is None else shown(getattr(model, what)) for model in models]

    return Chart(
        name=name,
        title=f"Figure {5 if is_loss else 6}: {what} against the learning rate, {data}",
        x_label="learning rate of Adam",
        y_label="loss (mean cross entropy)" if is_loss else "accuracy, %",
        lines=[
            Line(f"global, round {rounds}", rates, of(rounds)),
            Line(f"participants, round {rounds}", rates, [shown(_local(trial, what)) for trial in trials]),
            *([Line("global, round 1", rates, of(1))] if rounds > 1 else []),
        ],
        log_x=True,
        log_y=is_loss,
    )
