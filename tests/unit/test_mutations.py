"""The catalogue of mutations fits the code as it is; ``make mutations`` tries them out."""

from pathlib import Path

import pytest

from tests.mutations.catalogue import MUTATIONS
from tests.mutations.checks import _simulated, _tested
from tests.mutations.mutation import Mutation

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name for mutation in MUTATIONS])
def test_each_mutation_changes_one_place_and_is_code_still(mutation: Mutation, tmp_path: Path) -> None:
    copy = tmp_path / mutation.file
    copy.parent.mkdir(parents=True)
    copy.write_text((ROOT / mutation.file).read_text())
    compile(mutation.apply(tmp_path), mutation.file, "exec")
    with pytest.raises(ValueError, match="the old text occurs"):
        Mutation("rotten", mutation.file, "no such text", "", "").apply(tmp_path)


def test_names_and_changes_differ() -> None:
    assert len(MUTATIONS) >= 35
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    assert len({(mutation.file, mutation.old, mutation.new) for mutation in MUTATIONS}) == len(MUTATIONS)


def test_a_failed_check_is_told_by_its_first_sentence() -> None:
    story = "200 of 2000 seeds hold\nelection safety: a and b both lead term 2\n  0.1  a starts\nreplay: x --seed 17\n"
    assert _simulated(story) == "seed 17: election safety: a and b both lead term 2"
    assert _simulated("Traceback\nImportError: x\n") == "ImportError: x"
    assert _tested("...F\nFAILED tests/unit/a/test_b.py::test_c[1-2] - AssertionError: x\n1 failed\n") == (
        "test_b.py::test_c[1-2]"
    )
    assert _tested("no tests ran\n") == "no tests ran"
