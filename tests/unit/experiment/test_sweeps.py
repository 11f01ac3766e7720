"""Kills and learning rates: what is said of them is what was measured."""

import msgspec

from appliance.experiment import failover, learning_rate
from appliance.experiment.failover import Kill
from appliance.experiment.learning_rate import Trial
from appliance.experiment.result import Chart
from appliance.operator_api.views import UpdateView
from tests.unit.lineage.test_lineage import model

KILLS = [Kill(f"node{number % 5}", 0.5 + number / 10, 1.0 + number / 4) for number in range(10)]


def test_kills_are_summed_up_beside_the_papers_twenty_seconds() -> None:
    result = failover.result_of(KILLS, [], data="mnist", seed=3)
    assert result.reached
    assert result.findings[0] == (
        "A new leader after 0.95 s (median of 10 kills; 90 % within 1.30 s, worst 1.40 s); paper: 20 s."
    )
    assert result.tables[0].rows[1] == ("the next committed model", "1.00", "2.12", "3.00", "3.25", "")
    assert result.rows[9] == {"kill": 10, "victim": "node4", "leader_s": 1.4, "model_s": 3.25}


def test_two_leaders_in_a_term_are_told_and_nothing_is_reached() -> None:
    result = failover.result_of(KILLS, ["term 3 has the leaders ['a', 'b']"], data="mnist", seed=3)
    assert not result.reached
    assert "term 3 has the leaders" in result.findings[2]


def _trial(rate: float, *accuracies: float, diverged: bool = False) -> Trial:
    models = [msgspec.structs.replace(model(r), accuracy=a, loss=1 - a) for r, a in enumerate((0.1, *accuracies))]
    updates = [] if diverged else [UpdateView(len(accuracies), 100, local, 0.5) for local in (0.90, 0.92)]
    return Trial(rate, models, updates, diverged)


def test_the_best_rate_is_told_and_a_diverged_one_leaves_a_gap() -> None:
    trials = [_trial(1e-5, 0.2, 0.3), _trial(1e-3, 0.9, 0.95), _trial(1e-2, 0.93, 0.94), _trial(1.0, diverged=True)]
    result = learning_rate.result_of(trials, 2, 1, is_mnist=True)
    assert result.reached
    assert "is 95.00%, at learning rate 0.001; the least loss 0.0500" in result.findings[0]
    assert "30.00% at 1e-05, diverged at 1" in result.findings[1]
    assert result.tables[0].rows[1] == ("0.001", "0.0500", "95.00%", "0.5000", "91.00%")
    assert result.tables[0].rows[3] == ("1", "diverged", "diverged", "", "")
    loss, accuracy = result.figures
    assert isinstance(loss, Chart)
    assert isinstance(accuracy, Chart)
    assert loss.title.startswith("Figure 5: loss")
    assert accuracy.lines[0].y == [30.0, 95.0, 94.0, None]
    assert accuracy.lines[1].y == [91.0, 91.0, 91.0, None]
    assert len(result.rows) == 3 * 3 + 1
    assert [row["participants_accuracy"] for row in result.rows[:3]] == [None, None, 0.91]


def test_a_best_rate_at_an_end_of_the_sweep_shows_no_optimum() -> None:
    result = learning_rate.result_of([_trial(1e-5, 0.2), _trial(1e-3, 0.9)], 1, 1, is_mnist=False)
    assert not result.reached
    assert "NOT shown" in result.findings[1]
