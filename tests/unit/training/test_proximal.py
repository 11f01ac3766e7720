"""FedProx: held against the loss of its paper, differentiated by autograd."""

import threading
from pathlib import Path

import numpy as np
import torch

from appliance.aggregation.tensors import parse
from appliance.training import tasks
from appliance.training.proximal import Proximal
from appliance.training.trainer import Trainer
from appliance.words.settings import Data, Task, Training


def test_the_gradient_is_that_of_the_papers_loss() -> None:
    """Li et al. 2020, Algorithm 2: h(w) = F(w) + mu / 2 * ||w - w_t||^2."""
    torch.manual_seed(0)
    weights = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((7, 5), (5,))]
    pull = Proximal(weights, 0.3)
    base = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.randn_like(weight))

    def loss() -> torch.Tensor:
        return torch.stack([(weight**3).sum() for weight in weights]).sum()

    near = torch.stack([((weight - start) ** 2).sum() for weight, start in zip(weights, base, strict=True)]).sum()
    expected = torch.autograd.grad(loss() + 0.3 / 2 * near, weights)
    found = pull.add_to(torch.autograd.grad(loss(), weights))
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-12)


def test_it_keeps_a_training_nearer_to_its_base_and_zero_changes_nothing() -> None:
    task = tasks.load(Task(), Data(shards=5), Path("unused"))
    base = Trainer(Training(), task).initial_model()

    def way(settings: Training) -> tuple[float, bytes]:
        trainer = Trainer(settings, task)
        result = trainer.train(base, round=1, stop=threading.Event())
        assert result is not None
        before, after = parse(base, trainer.layout), parse(result.weights, trainer.layout)
        return float(np.sqrt(sum(((after[name] - before[name]) ** 2).sum() for name in before))), result.weights

    free, weights = way(Training(epochs=3))
    assert way(Training(epochs=3, proximal=0.0))[1] == weights
    assert way(Training(epochs=3, proximal=1.0))[0] < 0.7 * free
