"""Tasks: those that ship, plug-ins, and the sentences for what can't be one."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from appliance.training import tasks
from appliance.training.task import Samples
from appliance.training.task import Task as TaskBase
from appliance.training.trainer import Trainer
from appliance.words.errors import OperatorError
from appliance.words.settings import Data, Task, Training

GO = threading.Event()
OPTIONS: dict[str, Any] = {
    "label": "repaid",
    "classes": ["no", "yes"],
    "columns": {"income": {"mean": 50, "std": 20}, "job": {"values": ["clerk", "smith"]}},
    "hidden": [8],
    "held_out": 0.25,
}
JOBS = ("clerk", "smith", "other")
ROWS = "".join(f"{'yes' if at % 3 else 'no'},{30 + at % 3 * 20},{JOBS[at % 3]},\n" for at in range(200))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "loans.csv"
    path.write_text("repaid,income,job,note\n" + ROWS, encoding="utf-8")
    return path


def learned(task: TaskBase, epochs: int = 3) -> float:
    trainer = Trainer(Training(epochs=epochs, batch_size=16, learning_rate=1e-2), task)
    result = trainer.train(trainer.initial_model(), round=1, stop=GO)
    assert result is not None
    return result.metrics.accuracy


def test_the_convolutional_task_learns_the_digits() -> None:
    task = tasks.load(Task(name="cnn"), Data(shards=5), Path("unused"))
    assert sum(weight.numel() for weight in task.network().parameters()) == 52_138
    assert learned(task) > 0.6


def test_the_tabular_task_learns_a_table(table: Path) -> None:
    task = tasks.load(Task(name="tabular", options=OPTIONS), Data(source="csv", path=table), Path("unused"))
    assert (len(task.training), len(task.held_out)) == (150, 50)
    assert task.training.features.shape == (150, 3)
    assert learned(task, epochs=10) == 1.0


def test_an_empty_number_is_the_mean_and_an_unknown_category_is_none(tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text("job,repaid,income\n" + "king,yes,\nsmith,no,70\n" * 4)
    task = tasks.load(Task(name="tabular", options=OPTIONS), Data(source="csv", path=path), Path("unused"))
    rows = {tuple(row.tolist()) for row in torch.cat([task.training.features, task.held_out.features])}
    assert rows == {(0.0, 0.0, 0.0), (1.0, 0.0, 1.0)}


def test_nodes_share_one_table_without_overlap(table: Path) -> None:
    settings = Task(name="tabular", options=OPTIONS)
    data = [Data(source="csv", path=table, shard=number, shards=3) for number in range(3)]
    parts = [tasks.load(settings, each, Path("unused")) for each in data]
    assert sum(len(part.training) for part in parts) == 150
    assert all(torch.equal(part.held_out.features, parts[0].held_out.features) for part in parts)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"columns": {"height": {}}}, "has no column height"),
        ({"classes": ["no", "maybe"]}, "line 3: repaid is 'yes', which is not in task.options.classes"),
        ({"columns": {"job": {"mean": 1}}}, "line 2: job is no number: 'clerk'"),
        ({"columns": {"income": {"std": 0}}}, "task.options.columns.income: "),
        ({"columns": {"income": {"sdt": 1}}}, "task.options.columns.income: "),
        ({"hiden": [3]}, "task.options: Object contains unknown field `hiden`"),
        ({"held_out": 0.0001}, "too few to hold some out"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(table: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(OperatorError) as refusal:
        tasks.load(Task(name="tabular", options=OPTIONS | change), Data(source="csv", path=table), Path("unused"))
    assert sentence in str(refusal.value)


def test_the_fingerprint_tells_what_may_not_be_averaged(table: Path) -> None:
    def fingerprint(change: dict[str, Any]) -> str:
        settings = Task(name="tabular", options=OPTIONS | change)
        return Trainer(Training(), tasks.load(settings, Data(source="csv", path=table), Path("unused"))).fingerprint

    same, ann = fingerprint({}), Trainer(Training(), tasks.load(Task(), Data(), Path("unused"))).fingerprint
    assert same == fingerprint({"held_out": 0.4}), "each node holds out what it likes"
    assert ann.startswith("ann 1 (")
    others = [fingerprint({"columns": {"income": {"mean": 51}}}), fingerprint({"hidden": [9]}), ann]
    assert len({same, *others}) == 4


PLUG_IN = """
import torch
from appliance.training.task import Samples, Task

class Line(Task):
    name, version = "line", "7"
    def network(self):
        return torch.nn.Linear(1, 2)

def make(data, options, cache):
    x = torch.linspace(-1, 1, int(options["count"])).unsqueeze(1)
    samples = Samples(x, (x[:, 0] > 0).long())
    return Line(samples, samples, shard=data.shard)

def fails(data, options, cache):
    raise KeyError("nothing")

def none(data, options, cache):
    return 3

number = 4
"""


def test_a_module_of_ones_own_is_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "line_task.py").write_text(PLUG_IN)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))

    def load(name: str) -> TaskBase:
        return tasks.load(Task(name=name, folder=tmp_path, options={"count": 40}), Data(), tmp_path)

    assert learned(load("line_task:make"), epochs=20) > 0.9
    for name, sentence in (
        ("line_task:fails", "task.name: line_task:fails can't be made (KeyError: 'nothing')"),
        ("line_task:none", "made no appliance.training.task.Task, but int"),
        ("line_task:number", "line_task:number is int, and can't be called"),
        ("line_task:other", "can't be imported"),
        ("no_such_module:make", "task.name: no_such_module:make can't be imported"),
        ("unheard-of", "there is no task unheard-of; known are ann, cnn, tabular, or give MODULE:FACTORY"),
    ):
        with pytest.raises(OperatorError) as refusal:
            load(name)
        assert sentence in str(refusal.value)


class _Odd(TaskBase):
    name = "odd"

    def __init__(self, network: nn.Module) -> None:
        samples = Samples(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
        super().__init__(samples, samples)
        self._network = type(network)

    def network(self) -> nn.Module:
        return self._network()


class _Statistics(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 3), nn.BatchNorm1d(3))


class _Constant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("scale", torch.full((3,), 2.0), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layer(inputs * self.get_buffer("scale"))
        return found


def test_a_network_that_cant_be_averaged_is_refused() -> None:
    with pytest.raises(OperatorError, match=r"1.num_batches_tracked is torch.int64, and only float32"):
        Trainer(Training(), _Odd(_Statistics()))


def test_what_a_network_keeps_beside_its_state_has_its_value() -> None:
    trainer = Trainer(Training(), _Odd(_Constant()))
    assert {tensor.name for tensor in trainer.layout} == {"layer.weight", "layer.bias"}
    assert trainer.evaluate(trainer.initial_model()).samples == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(OperatorError, match="PyTorch finds no CUDA device"):
        Trainer(Training(device="cuda"), _Odd(_Constant()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_learns_as_on_the_cpu() -> None:
    task = tasks.load(Task(), Data(shards=5), Path("unused"))
    results = []
    for device in ("cpu", "cuda"):
        trainer = Trainer(Training(epochs=5, device=device), task)
        result = trainer.train(trainer.initial_model(), round=1, stop=GO)
        assert result is not None
        results.append(result.metrics)
    assert abs(results[0].accuracy - results[1].accuracy) < 0.03
    assert abs(results[0].loss - results[1].loss) < 0.1
