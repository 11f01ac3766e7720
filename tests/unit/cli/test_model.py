"""``p2pfl-node model``: what is listed, exported, compared and asked for, against a node that is what a test says."""

import asyncio
import json
import re
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from appliance.cli.main import main
from appliance.node.cluster import ClusterPlan, create_cluster
from appliance.operator_api.views import ListedModel
from appliance.training import datasets
from appliance.training.images import AnnTask
from appliance.training.network import layout_of, network_of
from appliance.training.trainer import Trainer
from appliance.words.ids import Version, digest_of
from appliance.words.models import GlobalModel
from appliance.words.settings import Data, Training
from tests.unit.lineage.test_lineage import model
from tests.unit.operator_api.fake import FakeNode, free_port, served


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Two real models."""
    task = AnnTask(datasets.load(Data(shards=20), tmp_path_factory.mktemp("data")))
    return [Trainer(Training(seed=seed), task).initial_model() for seed in (1, 2)]


def network(weights: bytes) -> nn.Module:
    """Return the paper's network with these weights."""
    task = AnnTask(datasets.load(Data(shards=20), Path("unused")))
    return network_of(task, weights, layout_of(task))


@pytest.fixture
def fake(weights: list[bytes]) -> FakeNode:
    """A node with a lineage of four versions: the first one's bytes are gone, and one round's model was withheld."""
    node = FakeNode()
    digests = [digest_of(b"gone"), *map(digest_of, weights)]
    node.entries = [
        msgspec.structs.replace(
            model(version), digest=digests[version], base=digests[version - 1] if version else None, accuracy=0.9
        )
        for version in range(3)
    ]
    node.entries.append(
        msgspec.structs.replace(model(3), digest=digests[2], base=digests[2], withheld="its accuracy fell")
    )
    node.bytes = dict(zip(digests[1:], weights, strict=True))
    return node


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a node's configuration."""
    return create_cluster(tmp_path / "c", ClusterPlan(nodes=1, base_port=free_port() - 2))[0].parent


async def _ask(folder: Path, fake: FakeNode, *arguments: object) -> Result:
    async with served(fake) as port:
        file = folder / "node.toml"
        head, _, _ = file.read_text().partition("[operator]")
        file.write_text(f"{head}[operator]\nport = {port}\n")
        words = ["model", *map(str, arguments), "--config", str(file)]
        return await asyncio.to_thread(CliRunner().invoke, main, words)


def _sentence(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("Error: ").rstrip()


# --- list -------------------------------------------------------------------------------------------------------------


async def test_the_list_says_what_is_here_and_what_made_no_new_model(folder: Path, fake: FakeNode) -> None:
    fake.roll_back(1)
    result = await _ask(folder, fake, "list")
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["version", "0", "1", "2", "3", "4"]
    assert [" here" in line for line in lines[1:]] == [False, True, True, True, True]
    assert lines[4].endswith("no new model: the round's was withheld")
    assert lines[5].endswith("rolled back to version 1")
    assert max(len(line) for line in lines) <= 120
    as_json = json.loads((await _ask(folder, fake, "list", "--json")).stdout)
    assert [(entry["version"], entry["here"], entry["rolled_back_to"]) for entry in as_json] == [
        (0, False, None),
        (1, True, None),
        (2, True, None),
        (3, True, None),
        (4, True, 1),
    ]
    assert set(as_json[0]) == {*GlobalModel.__struct_fields__, "here"}, "every field, also at its default"
    assert msgspec.convert(as_json, list[ListedModel]) == fake.models()


# --- export -----------------------------------------------------------------------------------------------------------


async def test_the_bytes_as_committed_are_written_with_their_entry(
    folder: Path, fake: FakeNode, tmp_path: Path, weights: list[bytes]
) -> None:
    out = tmp_path / "m1.safetensors"
    result = await _ask(folder, fake, "export", 1, "--out", out)
    assert result.exit_code == 0, result.output
    assert out.read_bytes() == weights[0]
    notes = json.loads((tmp_path / "m1.safetensors.json").read_text())
    assert (notes["cluster"], notes["version"], notes["digest"]) == ("p2pfl", 1, digest_of(weights[0]))
    assert notes["format"] == "safetensors"
    assert msgspec.convert(notes["lineage"], GlobalModel) == fake.entries[1]


async def test_nothing_is_overwritten_unless_that_is_asked_for(
    folder: Path, fake: FakeNode, tmp_path: Path, weights: list[bytes]
) -> None:
    out = tmp_path / "m.safetensors"
    for name in ("m.safetensors", "m.safetensors.json"):
        (tmp_path / name).write_text("mine")
        sentence = _sentence(await _ask(folder, fake, "export", 1, "--out", out))
        assert sentence == f"{tmp_path / name} is there already; give --force to overwrite it"
        (tmp_path / name).unlink()
    out.write_text("mine")
    assert (await _ask(folder, fake, "export", 1, "--out", out, "--force")).exit_code == 0
    assert out.read_bytes() == weights[0]


@pytest.mark.parametrize("version", [0, 9])
async def test_a_model_that_is_not_here_writes_nothing(
    folder: Path, fake: FakeNode, tmp_path: Path, version: Version
) -> None:
    out = tmp_path / "m.safetensors"
    sentence = _sentence(await _ask(folder, fake, "export", version, "--out", out))
    assert f"the bytes of {version} are not on this node" in sentence or "version 9 is not in the lineage" in sentence
    assert not out.exists()


async def test_bytes_that_are_not_those_of_the_lineage_are_refused(
    folder: Path, fake: FakeNode, tmp_path: Path
) -> None:
    fake.bytes[fake.entries[1].digest] = b"others"
    sentence = _sentence(await _ask(folder, fake, "export", 1, "--out", tmp_path / "m"))
    assert sentence == "what the node gave is not the model of version 1; see its log"


async def test_a_program_for_serving_says_what_the_network_says(
    folder: Path, fake: FakeNode, tmp_path: Path, weights: list[bytes]
) -> None:
    out = tmp_path / "m1.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        result = await _ask(folder, fake, "export", 1, "--out", out, "--format", "torch")
        assert result.exit_code == 0, result.output
        extra = {"p2pfl-node.json": ""}
        program = torch.export.load(out, extra_files=extra).module()
    images = torch.rand(4, 28, 28)
    with torch.inference_mode():
        assert torch.allclose(program(images), network(weights[0])(images), atol=1e-6)
    notes = json.loads((tmp_path / "m1.pt2.json").read_text())
    assert json.loads(extra["p2pfl-node.json"]) == notes
    assert (notes["version"], notes["format"]) == (1, "torch")


# --- diff -------------------------------------------------------------------------------------------------------------


async def test_two_models_are_compared(folder: Path, fake: FakeNode, weights: list[bytes]) -> None:
    result = await _ask(folder, fake, "diff", 1, 2)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:8]] == [
        *("hidden1.bias", "hidden1.weight", "hidden2.bias", "hidden2.weight", "output.bias", "output.weight", "all")
    ]
    first, second = ({**network(content).state_dict()} for content in weights)
    expected = float(np.linalg.norm((second["output.bias"] - first["output.bias"]).numpy().astype(np.float64)))
    assert float(lines[5].split()[1]) == pytest.approx(expected, rel=1e-4)
    assert re.fullmatch(r"cosine of A and B: -?0\.0\d+", lines[8])
    assert lines[9:] == ["version 1: accuracy 0.9000, loss 1.0000", "version 2: accuracy 0.9000, loss 1.0000"]
    same = (await _ask(folder, fake, "diff", 2, 3)).stdout.splitlines()
    assert same[7].split() == ["all", "0", "0", "0"]
    assert same[8] == "cosine of A and B: 1.000000"


# --- rollback ---------------------------------------------------------------------------------------------------------


async def test_a_rollback_waits_for_its_commit(folder: Path, fake: FakeNode) -> None:
    result = await _ask(folder, fake, "rollback", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "version 4 has the bytes of version 1; the next round is on it"
    fake.member_problem = "node2 leads now; models are rolled back on the leader"
    assert _sentence(await _ask(folder, fake, "rollback", 1)) == fake.member_problem


@pytest.mark.parametrize("leader", ["node0", "node1"])
async def test_a_rollback_that_is_not_committed_is_none(
    folder: Path, fake: FakeNode, monkeypatch: pytest.MonkeyPatch, leader: str
) -> None:
    """Not even if one to the same version was committed before."""
    monkeypatch.setattr("appliance.cli.model.COMMITTED_WITHIN_S", 0.3 if leader == "node0" else 60.0)
    fake.roll_back(1)
    monkeypatch.setattr(fake, "roll_back", lambda version: None)
    fake.state = msgspec.structs.replace(fake.state, leader=leader)
    result = await _ask(folder, fake, "rollback", 1)
    assert result.exit_code == 1
    assert "the rollback to version 1 is not committed" in result.stderr
