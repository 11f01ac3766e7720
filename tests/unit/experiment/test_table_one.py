"""Table I: what is said of runs is what they gave, and no aim is called reached that is not."""

import msgspec
import pytest

from appliance.experiment.laboratory import NODES
from appliance.experiment.result import Chart
from appliance.experiment.table_one import DIGITS, MNIST, Run, Settings, result_of
from appliance.operator_api.views import UpdateView
from appliance.words.models import GlobalModel
from tests.unit.lineage.test_lineage import model


def run(seed: int, locals_: tuple[float, ...], aggregated: float) -> Run:
    def judged(round_: int, accuracy: float) -> GlobalModel:
        return msgspec.structs.replace(model(round_), accuracy=accuracy, loss=1 - accuracy, samples=50_000)

    updates = {f"node{i}": UpdateView(1, 10_000, accuracy, 0.2) for i, accuracy in enumerate(locals_)}
    return Run(seed, judged(0, 0.911), updates, judged(1, aggregated))


GOOD = [
    run(0, (0.942, 0.944, 0.946, 0.943, 0.945), 0.964),
    run(1, (0.944, 0.946, 0.942, 0.943, 0.945), 0.962),
]


def test_the_mean_over_seeds_stands_beside_the_papers_figures() -> None:
    result = result_of(GOOD, MNIST, is_mnist=True)
    assert result.reached
    assert "96.30% (mean of 2 seeds, from 96.20% to 96.40%); paper: 96.04%" in result.findings[0]
    assert "1.90 points more" in result.findings[1]
    assert "(94.40%); paper: 1.47 points, at 94.57%" in result.findings[1]
    assert result.findings[-1].endswith("is reached.")
    rows = {row[0]: row[1:] for row in result.tables[0].rows}
    assert rows["initial global model"] == ("91.10%", "0.00", "0.0890", "0.0000", "91.03%", "2.4663")
    assert rows["node0"] == ("94.30%", "0.14", "0.2000", "0.0000", "94.74%", "")
    assert rows["participants, mean"][:2] == ("94.40%", "0.00")
    assert rows["aggregated"] == ("96.30%", "0.14", "0.0370", "0.0014", "96.04%", "0.72")
    assert rows["gain, points"] == ("1.90", "0.14", "", "", "1.47", "")


@pytest.mark.parametrize(
    ("locals_", "aggregated"),
    [
        pytest.param((0.945,) * 5, 0.9603, id="accuracy"),
        pytest.param((0.949,) * 5, 0.9630, id="gain"),
        pytest.param((0.92,) * 5, 0.9700, id="local models too weak to be compared"),
        pytest.param((0.955,) * 5, 0.9800, id="local models too good to be compared"),
    ],
)
def test_an_aim_that_is_missed_is_called_missed(locals_: tuple[float, ...], aggregated: float) -> None:
    result = result_of([run(0, locals_, aggregated)], MNIST, is_mnist=True)
    assert not result.reached
    assert result.findings[-1].endswith("is NOT reached.")


def test_the_papers_own_figures_reach_the_aim() -> None:
    assert result_of([run(0, (0.9474, 0.9489, 0.9423, 0.9441, 0.9458), 0.9604)], MNIST, is_mnist=True).reached


def test_digits_are_never_passed_off_as_mnist() -> None:
    result = result_of(GOOD, DIGITS, is_mnist=False)
    assert any("not MNIST" in finding for finding in result.findings)
    assert not any("aim" in finding for finding in result.findings)
    chart = result.figures[0]
    assert isinstance(chart, Chart)
    assert "digits" in chart.title
    assert chart.references == {}


def test_every_measurement_is_a_row() -> None:
    result = result_of(GOOD, MNIST, is_mnist=True)
    assert len(result.rows) == 2 * 7
    assert result.rows[1] == {"seed": 0, "model": "node0", "samples": 10_000, "accuracy": 0.942, "loss": 0.2}


@pytest.mark.parametrize("settings", [MNIST, DIGITS])
def test_nobody_trains_on_what_the_starting_model_has_seen(settings: Settings) -> None:
    """Shards are consecutive parts of one order: the last start shard begins where the fifth participant's ends."""
    assert NODES / settings.shards <= (settings.start_shards - 1) / settings.start_shards
