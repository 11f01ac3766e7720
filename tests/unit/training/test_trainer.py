"""Training learns, repeats itself to the bit, stops at once, and judges honestly."""

import math
import re
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import torch

from appliance.aggregation.fedavg import FedAvg
from appliance.aggregation.numbers import in_memory
from appliance.aggregation.state import serialise_model, state_name
from appliance.aggregation.tensors import parse, serialise
from appliance.aggregation.validation import parse_update
from appliance.training import datasets
from appliance.training.adam import Adam
from appliance.training.ann import Ann
from appliance.training.examples import Examples, Shard
from appliance.training.images import AnnTask
from appliance.training.trainer import Trained, Trainer
from appliance.words.errors import OperatorError, RemoteError
from appliance.words.models import Metrics
from appliance.words.settings import Data, Training

GO = threading.Event()


def digits(number: int = 0, shards: int = 5) -> Shard:
    """Return a shard of the embedded digits."""
    return datasets.load(Data(shard=number, shards=shards), Path("unused"))


def ann(number: int = 0) -> AnnTask:
    """Return the paper's task on a shard of the embedded digits."""
    return AnnTask(digits(number))


def trained(trainer: Trainer, base: bytes, round_: int = 1) -> Trained:
    """Return the result of a training that nothing stops."""
    result = trainer.train(base, round=round_, stop=GO)
    assert result is not None
    return result


def test_the_network_is_the_papers() -> None:
    layout = Trainer(Training(), ann()).layout
    assert {tensor.name: tensor.shape for tensor in layout} == {
        "hidden1.weight": (128, 784),
        "hidden1.bias": (128,),
        "hidden2.weight": (2096, 128),
        "hidden2.bias": (2096,),
        "output.weight": (10, 2096),
        "output.bias": (10,),
    }
    assert sum(int(np.prod(tensor.shape)) for tensor in layout) == 391_834
    assert list(layout) == sorted(layout, key=lambda tensor: tensor.name)


def test_the_initial_model_depends_on_the_seed_only() -> None:
    models = [Trainer(Training(seed=seed), ann(shard)).initial_model() for seed, shard in ((0, 0), (0, 3), (1, 0))]
    assert models[0] == models[1] != models[2]


def test_making_an_initial_model_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    Trainer(Training(), ann()).initial_model()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_lineage_may_begin_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "start.safetensors"
    other = Trainer(Training(seed=7), ann()).initial_model()
    file.write_bytes(other)
    assert Trainer(Training(initial=file), ann()).initial_model() == other


def test_a_lineage_may_begin_with_a_strategys_state(tmp_path: Path) -> None:
    """What /v1/model gives of a cluster with a server optimizer."""
    trainer = Trainer(Training(), ann())
    arrays = parse(trainer.initial_model(), trainer.layout)
    state = {state_name("first", name): np.ones_like(array) for name, array in arrays.items()}
    file = tmp_path / "start.safetensors"
    file.write_bytes(serialise_model({**arrays, **state}, trainer.layout))
    assert Trainer(Training(initial=file), ann()).initial_model() == file.read_bytes()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "can't be read (No such file or directory)"),
        (b"no model", "holds no model of this network"),
        (math.nan, "holds a value that is not finite"),
    ],
)
def test_a_file_that_can_begin_no_lineage_is_named(tmp_path: Path, content: bytes | float | None, problem: str) -> None:
    file = tmp_path / "start.safetensors"
    trainer = Trainer(Training(initial=file), ann())
    if isinstance(content, float):
        arrays = {tensor.name: np.full(tensor.shape, content, np.float32) for tensor in trainer.layout}
        content = serialise(arrays, trainer.layout)
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OperatorError, match=re.escape(f"training.initial: {file} {problem}")):
        trainer.initial_model()


def test_the_same_training_gives_the_same_bytes_and_any_difference_gives_others() -> None:
    trainer = Trainer(Training(), ann())
    base = trainer.initial_model()
    first = trained(trainer, base)
    assert trained(Trainer(Training(), ann()), base) == first
    others = [
        trained(trainer, base, round_=2),
        trained(trainer, first.weights),
        trained(Trainer(Training(seed=1), ann()), base),
        trained(Trainer(Training(), ann(1)), base),
        trained(Trainer(Training(epochs=2), ann()), base),
        trained(Trainer(Training(batch_size=32), ann()), base),
        trained(Trainer(Training(learning_rate=2e-3), ann()), base),
    ]
    assert len({first.weights, *(other.weights for other in others)}) == len(others) + 1


def test_the_loop_is_the_textbook_loop_bit_for_bit() -> None:
    """Held against PyTorch's own optimizer, on the same batches."""
    shard = digits()
    trainer = Trainer(Training(epochs=2, batch_size=50), AnnTask(shard))
    base = trainer.initial_model()
    network = Ann()
    arrays = parse(base, trainer.layout)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    images = torch.from_numpy(shard.training.images).float() * (1 / 255)
    labels = torch.from_numpy(shard.training.labels).long()
    for epoch in range(2):
        order = torch.from_numpy(np.random.default_rng((0, 9, epoch, 0)).permutation(len(labels)))
        for places in order.split(50):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[places]), labels[places]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    expected = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    assert trained(trainer, base, 9).weights == serialise(expected, trainer.layout)


def test_adam_is_pytorchs_adam() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(30, 20), torch.nn.Linear(30, 20)
    theirs.load_state_dict(ours.state_dict())
    adam = Adam(list(ours.parameters()), 1e-2)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-2, fused=True)
    slow = torch.optim.Adam([parameter.detach().clone() for parameter in ours.parameters()], lr=1e-2)
    for _ in range(50):
        gradients = [torch.randn_like(parameter) for parameter in ours.parameters()]
        for group in (theirs.parameters(), slow.param_groups[0]["params"]):
            for parameter, gradient in zip(group, gradients, strict=True):
                parameter.grad = gradient.clone()
        adam.step(gradients)
        optimizer.step()
        slow.step()
    for mine, fused, default in zip(
        ours.parameters(), theirs.parameters(), slow.param_groups[0]["params"], strict=True
    ):
        assert torch.equal(mine, fused)
        assert torch.allclose(mine, default, rtol=1e-5, atol=1e-6)


def test_federated_rounds_on_the_digits_learn() -> None:
    trainers = [Trainer(Training(epochs=2, batch_size=32), ann(number)) for number in range(5)]
    layout, model = trainers[0].layout, trainers[0].initial_model()
    accuracies = [trainers[0].evaluate(model).accuracy]
    for round_ in range(1, 5):
        mean = FedAvg(layout)
        for trainer in trainers:
            update = trained(trainer, model, round_)
            mean.add(in_memory(parse_update(update.weights, layout)), update.samples)
        model = serialise(mean.result(), layout)
        accuracies.append(trainers[0].evaluate(model).accuracy)
    assert accuracies[0] < 0.3
    assert accuracies[-1] > 0.9


def test_metrics_are_those_of_the_definition() -> None:
    trainer = Trainer(Training(), ann())
    update = trained(trainer, trainer.initial_model())
    network = Ann()
    arrays = parse(update.weights, trainer.layout)
    network.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
    held_out = digits().held_out
    labels = torch.from_numpy(held_out.labels).long()
    with torch.no_grad():
        logits = network(torch.from_numpy(held_out.images).float() / 255)
    assert update.samples == trainer.samples == 288
    assert update.metrics == trainer.evaluate(update.weights)
    assert update.metrics.samples == 360
    assert update.metrics.accuracy == pytest.approx(float((logits.argmax(1) == labels).double().mean()))
    assert update.metrics.loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5)


def test_several_cores_judge_to_the_same_bits_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shard = digits()
    many = Shard(0, shard.training, shard.held_out.take(np.tile(np.arange(360), 12)))  # nine parts
    judges = set[str]()

    class Watched(AnnTask):
        def inputs(self, features: torch.Tensor) -> torch.Tensor:
            judges.add(threading.current_thread().name)
            return super().inputs(features)

    def judged(cores: int, threads: int = 1) -> tuple[Metrics, int]:
        monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)))
        judges.clear()
        trainer = Trainer(Training(threads=threads), Watched(many))
        return trainer.evaluate(trainer.initial_model()), len(judges)

    alone, judge = judged(cores=1)
    together, several = judged(cores=64)
    assert alone == together
    assert judge == 1
    assert 1 < several <= 4
    try:
        assert judged(cores=64, threads=2)[1] == 1, "PyTorch's own threads do it"
    finally:
        torch.set_num_threads(1)


def test_judging_in_parts_or_only_a_part_is_judging() -> None:
    shard = digits()
    repeated = shard.held_out.take(np.tile(np.arange(360), 4))
    trainer, often = (
        Trainer(Training(), AnnTask(shard)),
        Trainer(Training(), AnnTask(Shard(0, shard.training, repeated))),
    )
    model = trainer.initial_model()
    whole, four_times = trainer.evaluate(model), often.evaluate(model)
    assert four_times.samples == 1440
    assert four_times.accuracy == whole.accuracy
    assert four_times.loss == pytest.approx(whole.loss)
    assert often.evaluate(model, 360) == whole
    assert trainer.evaluate(model, 10**6) == whole
    assert trainer.evaluate(model, 7).samples == 7
    limited = Trainer(Training(judged_samples=7), AnnTask(shard)).train(model, round=1, stop=GO)
    assert limited is not None
    assert limited.metrics.samples == 7


@pytest.mark.parametrize("batch_size", [4, 7])
def test_progress_rises_to_one_in_each_epoch(batch_size: int) -> None:
    trainer = Trainer(Training(epochs=2, batch_size=batch_size), ann())
    told: list[tuple[int, float]] = []
    trainer.train(trainer.initial_model(), round=1, stop=GO, progress=lambda *step: told.append(step))
    assert told == sorted(told)
    assert {epoch for epoch, _ in told} == {0, 1}
    assert len(told) == 2 * -(-trainer.samples // batch_size)
    assert {(0, 1.0), (1, 1.0)} <= set(told)


def test_tiny_floats_are_flushed_while_training_and_never_after() -> None:
    trainer = Trainer(Training(), ann())
    during: list[float] = []

    def a_denormal() -> float:
        return float(torch.tensor(2e-38) * 0.1)

    trainer.train(trainer.initial_model(), round=1, stop=GO, progress=lambda *_: during.append(a_denormal()))
    assert set(during) == {0.0}
    assert a_denormal() > 0


def test_training_stops_between_batches() -> None:
    trainer = Trainer(Training(batch_size=1), ann())
    stop = threading.Event()
    told: list[float] = []

    def progress(_epoch: int, share: float) -> None:
        told.append(share)
        stop.set()

    assert trainer.train(trainer.initial_model(), round=1, stop=stop, progress=progress) is None
    assert len(told) == 1


def test_a_last_batch_of_one_sample_is_trained_on() -> None:
    shard = digits()
    few = Shard(0, shard.training.take(np.arange(65)), shard.held_out)
    trainer = Trainer(Training(), AnnTask(few))
    assert trained(trainer, trainer.initial_model()).samples == 65


def test_threads_may_judge_and_train_at_the_same_time() -> None:
    trainer = Trainer(Training(), ann())
    base = trainer.initial_model()
    alone = trained(trainer, base)
    results: list[Trained | None] = []
    threads = [threading.Thread(target=lambda: results.append(trainer.train(base, round=1, stop=GO))) for _ in range(3)]
    for thread in threads:
        thread.start()
    metrics = trainer.evaluate(alone.weights)
    for thread in threads:
        thread.join()
    assert results == [alone] * 3
    assert metrics == alone.metrics


def test_a_training_that_diverges_says_what_to_change() -> None:
    trainer = Trainer(Training(learning_rate=1e30, epochs=3), ann())
    with pytest.raises(OperatorError, match=r"training of round 4 diverged.*training\.learning_rate, which is 1e\+30"):
        trainer.train(trainer.initial_model(), round=4, stop=GO)


def test_a_model_whose_loss_is_no_number_is_judged_as_bad_as_can_be() -> None:
    trainer = Trainer(Training(), ann())
    huge = {tensor.name: np.full(tensor.shape, 1e30, np.float32) for tensor in trainer.layout}
    metrics = trainer.evaluate(serialise(huge, trainer.layout))
    assert metrics.loss == sys.float_info.max
    assert msgspec.json.decode(msgspec.json.encode(metrics), type=type(metrics)) == metrics


def test_the_state_of_a_strategy_in_a_model_has_no_effect_on_training_and_judging() -> None:
    trainer = Trainer(Training(), ann())
    base = trainer.initial_model()
    arrays = parse(base, trainer.layout)
    with_state = arrays | {state_name("first", name): np.full_like(array, 1e30) for name, array in arrays.items()}
    model = serialise_model(with_state, trainer.layout)
    assert trainer.evaluate(model) == trainer.evaluate(base)
    assert trained(trainer, model) == trained(trainer, base), "the update has no state"
    with pytest.raises(RemoteError, match="tensors, and 6 are expected"):
        trainer.evaluate(safetensors.numpy.save(with_state | {"aggregation.third/w": np.zeros(1, np.float32)}))


def test_a_base_of_another_layout_is_refused() -> None:
    with pytest.raises(RemoteError, match="length is wrong"):
        Trainer(Training(), ann()).train(b"", round=1, stop=GO)


def test_the_number_of_threads_is_the_settings() -> None:
    before = torch.get_num_threads()
    try:
        Trainer(Training(threads=2), ann())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_node_that_trains_imports_no_compiler_and_no_torchvision() -> None:
    """They would take 150 MB of the 400 MB that a node may have."""
    script = (
        "import sys, threading; from pathlib import Path; from appliance.training import tasks; "
        "from appliance.training.trainer import Trainer; from appliance.words.settings import Data, Task, Training; "
        "trainer = Trainer(Training(), tasks.load(Task(), Data(shards=5), Path('unused'))); "
        "trainer.train(trainer.initial_model(), round=1, stop=threading.Event()); "
        "sys.exit(' '.join({'torch._dynamo', 'torch._inductor', 'sympy', 'torchvision'} & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_a_shard_of_one_image_and_a_held_out_set_of_one_are_enough() -> None:
    one = Examples(np.zeros((1, 28, 28), np.uint8), np.array([3], np.uint8))
    trainer = Trainer(Training(), AnnTask(Shard(0, one, one)))
    assert trained(trainer, trainer.initial_model()).metrics.samples == 1
