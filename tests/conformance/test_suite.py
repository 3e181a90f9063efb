"""The conformance suite itself: what it must reject, and that it rejects nothing else."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conformance import broken_checkpoints, broken_life, broken_sampling
from tests.conformance.broken import Broken

from reverie import ArraySpec, ReplayBufferManager, Trajectory
from reverie.errors import ReverieError
from reverie.testing import (
    ManagerConformance,
    conformance_checks,
    conformance_failures,
    conformance_suite,
)

DEFECTS = broken_life.DEFECTS | broken_sampling.DEFECTS | broken_checkpoints.DEFECTS
# Seen by a broken twin of its own, where TensorFlow is: tests/tf_agents.
NEEDS_TENSORFLOW = {"a_dataset_has_the_same_items"}


def factory(manager: type[ReplayBufferManager]) -> Any:
    return lambda folder, **settings: manager(checkpoint_dir=folder, **settings)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_seen_by_its_check(defect: type[Broken], tmp_path: Path) -> None:
    check = f"test_{DEFECTS[defect]}"
    failures = conformance_failures(factory(defect), tmp_path, checks=[check])
    assert list(failures) == [check]
    # What the check found, or an error of the manager that it did not expect.
    assert isinstance(failures[check], AssertionError | ReverieError | OSError), failures


def test_every_check_sees_a_defect() -> None:
    seen = {f"test_{name}" for name in {*DEFECTS.values(), *NEEDS_TENSORFLOW}}
    assert seen == set(conformance_checks())


@pytest.mark.parametrize("check", conformance_checks())
def test_the_frame_of_the_broken_managers_is_sound(check: str, tmp_path: Path) -> None:
    assert conformance_failures(factory(Broken), tmp_path, checks=[check]) == {}


def test_it_runs_with_a_data_spec_of_ones_own(tmp_path: Path) -> None:
    scalar = ArraySpec((), "int32")
    spec = Trajectory(
        scalar, ArraySpec((5,), "uint8"), ArraySpec((), "int8"), (), scalar,
        ArraySpec((), "float64"), ArraySpec((), "float16"),
    )  # fmt: skip
    suite = conformance_suite(factory(ReplayBufferManager), data_spec=spec)
    suite().test_every_window_is_an_item_in_insertion_order(tmp_path / "1")
    suite().test_a_batch_has_its_shapes_and_dtypes(tmp_path / "2")


def test_the_two_lines_of_the_documentation_run_every_check(tmp_path: Path) -> None:
    text = inspect.getdoc(sys.modules[conformance_suite.__module__]) or ""
    start = text.index("    from reverie import")
    code = inspect.cleandoc(text[start : text.index("Each check")]).replace("mine", "embedded")
    (tmp_path / "test_mine.py").write_text(code)
    names = ["pytest", "-q", "-p", "no:cacheprovider", "--collect-only", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, "-m", *names], cwd=tmp_path, capture_output=True, text=True
    )
    for check in conformance_checks():
        assert f"TestMine::{check}" in run.stdout


def test_each_check_says_what_it_claims() -> None:
    for name in conformance_checks():
        assert (inspect.getdoc(getattr(ManagerConformance, name)) or "").endswith(".")


def test_the_checks_need_no_assert_statements() -> None:
    for base in ManagerConformance.__mro__[1:-2]:
        tree = ast.parse(Path(inspect.getfile(base)).read_text("utf-8"))
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        assert found == []
