"""The SAC example, as a user runs it, and that it would say so if nothing were learnt."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/tf_agents_sac.py"


@pytest.fixture
def example() -> Any:
    spec = importlib.util.spec_from_file_location("tf_agents_sac", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_agent_learns_before_and_after_loading(
    example: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert example.main(["--quick"]) == 0
    printed = capsys.readouterr().out
    returns = [float(r) for r in re.findall(r"^ +\d+ +\d+ +(-[\d.]+) +\d+$", printed, re.M)]
    assert len(returns) == 5
    assert returns[0] < returns[2] < returns[4]
    assert "items loaded from ckpt-" in printed


def test_an_agent_that_learns_nothing_is_an_error(
    example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "train", lambda *arguments: None)
    assert example.main(["--quick"]) == 1
