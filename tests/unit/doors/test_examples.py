"""The examples that train learn what they say, on a small scale."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def test_goals_are_reached_with_hindsight_and_not_without() -> None:
    pytest.importorskip("torch", reason="needs PyTorch: nox -s doors")
    example = runpy.run_path(str(EXAMPLES / "hindsight_torch.py"))
    reached, without = example["main"](bits=7, calls=200)
    assert reached > 0.8
    assert without < 0.4


def test_a_lock_is_opened_with_the_logs_and_not_without() -> None:
    pytest.importorskip("torch", reason="needs PyTorch: nox -s doors")
    example = runpy.run_path(str(EXAMPLES / "offline_online_torch.py"))
    opened, without, logged = example["main"](steps=1_600)
    assert (opened, without) == (1, 0)
    assert 0.2 < logged < 0.9
