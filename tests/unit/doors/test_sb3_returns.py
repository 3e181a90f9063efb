"""`benchmarks.sb3_returns` compares seed by seed, and does nothing twice."""

from __future__ import annotations

import importlib
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3", reason="needs Stable-Baselines3: nox -s sb3")
returns = importlib.import_module("benchmarks.sb3_returns")


def runs(algorithm: str, ours: list[float]) -> list[dict[str, Any]]:
    """As many seeds as there are returns of ours; SB3's own got 100 times the seed."""
    return [
        {"algorithm": algorithm, "seed": seed, "kind": kind, "return": value}
        | {"mean of all looks": value / 2}
        for seed, value in enumerate(ours)
        for kind, value in zip(returns.KINDS, (100.0 * seed, value, 7.0), strict=True)
    ]


def test_differences_are_paired_and_seeds_that_lack_a_run_are_left_out() -> None:
    found = runs("DQN", [1, 102, 203, 304]) + runs("SAC", [-9])
    lines = returns.table(found[:-4], "DQN").splitlines()
    assert lines[2] == "| 0 | 0.0 | 1.0 | 7.0 | 0.0 | 0.5 | 3.5 |"
    assert len(lines) == 2 + 3 + 2
    # 1, 2 and 3: of spread 1 and three of them; Student's t of two degrees is 4.303.
    assert lines[-1].split(" | ")[2] == "+2.0 ± 2.5"
    assert lines[-2].startswith("| mean | 100.0 | 102.0 | 7.0 |")


def test_an_interval_is_students() -> None:
    mean, half = returns.interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3
    assert half == pytest.approx(2.776 * statistics.stdev([1, 2, 3, 4, 5]) / 5**0.5)
    assert returns.interval([1.0]) == (1.0, float("inf"))


def test_runs_that_are_in_the_file_are_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "found.json"
    call = ["", "--algorithms", "DQN", "--steps", "80", "--json", str(path), "--seeds"]
    monkeypatch.setattr(sys, "argv", [*call, "3"])
    returns.main()
    first = json.loads(path.read_text())["runs"]
    assert [each["kind"] for each in first] == list(returns.KINDS)
    assert all(len(each["looks"]) == returns.LOOKS for each in first)
    monkeypatch.setattr(sys, "argv", [*call, "3", "4"])
    returns.main()
    assert json.loads(path.read_text())["runs"][:3] == first


@pytest.mark.parametrize("algorithm", ["DQN", "SAC"])
def test_the_same_draws_train_the_same_weights_and_others_do_not(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 1_100 if algorithm == "DQN" else 520
    assert returns.are_weights_the_same(algorithm, 0, steps)
    monkeypatch.setattr(returns.SameDraws, "sample", returns.reverie.sb3.ReplayBuffer.sample)
    assert not returns.are_weights_the_same(algorithm, 0, steps)
