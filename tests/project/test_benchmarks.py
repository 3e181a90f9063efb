"""The benchmarks that `docs/performance.md` quotes run, and tell what they should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_figures_of_one_table_are_all_there() -> None:
    run = [sys.executable, "-m", "benchmarks.one_table", "--items", "2000"]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout)
    assert found["items"] == 2000
    assert min(value for value in found.values() if not isinstance(value, dict)) > 0
    served = found["served"]
    assert served["record_mb"] == served["loaded_record_mb"]  # rows stay rows
    assert served["chunks"] == served["loaded_chunks"]


def test_the_figures_of_casts_are_all_there(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "benchmarks.casts", "--rounds", "1", "--calls", "4"]
    run += ["--json", str(tmp_path / "found")]
    subprocess.run(run, capture_output=True, check=True, cwd=ROOT)
    found = json.loads((tmp_path / "found").read_text())
    for label in ("a step", "a batch of 8", "a batch of 64"):
        assert {"exact", "Python scalars", "float64", "strided", "lists"} <= set(found[label])
        assert min(found[label].values()) > 0


@pytest.mark.parametrize("is_compiler_there", [True, False])
def test_the_figures_of_windows_are_all_there(tmp_path: Path, is_compiler_there: bool) -> None:
    run = [sys.executable, "-m", "benchmarks.windows", "--sizes", "2e3", "3e3"]
    run += ["--batches", "16", "--rounds", "1", "--json", str(tmp_path / "found")]
    env = os.environ if is_compiler_there else {**os.environ, "PATH": ""}
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    found = json.loads((tmp_path / "found").read_text())
    assert found["machine"]["cpus"] >= 1
    for size in ("2000", "3000"):
        figures = found["sizes"][size]
        row = figures["batches"]["16"]
        assert min(*row.values(), figures["append_us"]) > 0
        assert f"{int(size):,} items" in done.stdout
        assert list(figures["pauses"]) == ["nothing", "save", "clear"]
        said = "limit: missing" in done.stderr
        assert ("ours_over_huge" in row) is not said
        assert is_compiler_there or said


def test_without_a_gpu_the_figures_of_devices_are_none_and_that_is_said() -> None:
    run = [sys.executable, "-m", "benchmarks.device", "--rounds", "1", "--repeat", "2"]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    if done.stdout.startswith("Nothing was measured: "):
        return
    found = json.loads(done.stdout)
    assert min(*found["small"].values(), *found["images"].values()) > 0
