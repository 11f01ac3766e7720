"""The laboratory's clusters: made apart from each other, and made new again."""

import io
from pathlib import Path

from rich.console import Console

from appliance.experiment.laboratory import Laboratory, begin_anew
from appliance.experiment.progress import Reporter
from appliance.node.cluster import ClusterPlan
from appliance.node.config import load
from appliance.words.settings import Data, Training


def test_nodes_that_begin_anew_forget_all_but_their_prepared_data(tmp_path: Path) -> None:
    laboratory = Laboratory(Data(), Reporter(Console(file=io.StringIO())), tmp_path)
    files = laboratory.new_cluster(ClusterPlan(nodes=2))
    before = [load(file) for file in files]
    for config in before:
        for folder in ("data", "models", "consensus"):
            (config.state / folder).mkdir()
            (config.state / folder / "content").write_text("x")
        (config.state / "tokens.seed").write_text("x")
    begin_anew(files, Training(learning_rate=0.5))
    for file, old in zip(files, before, strict=True):
        config = load(file)
        assert [path.name for path in config.state.iterdir()] == ["data"]
        assert (config.state / "data" / "content").exists()
        assert config.training.learning_rate == 0.5
        assert (config.node, config.cluster, config.data) == (old.node, old.cluster, old.data)


def test_a_laboratory_is_gone_when_it_is_left() -> None:
    with Laboratory.opened(Data(), Reporter(Console(file=io.StringIO()))) as laboratory:
        first, second = (laboratory.new_cluster(ClusterPlan(nodes=1))[0] for _ in range(2))
        assert first != second
        assert first.exists()
    assert not laboratory.folder.exists()


def test_progress_on_what_is_no_terminal_is_plain_lines() -> None:
    output = io.StringIO()
    with Reporter(Console(file=output, width=80)) as reporter:
        reporter.step("a step", 1, 3)
        reporter.say("seed [0]: start")
    assert output.getvalue().endswith(" s  seed [0]: start\n")
    assert output.getvalue().count("\n") == 1
