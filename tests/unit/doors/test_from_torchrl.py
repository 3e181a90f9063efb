"""The page for who comes from TorchRL: each row of its tables runs, on both sides."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from tests.torchrl_support import World

import reverie

PAGE = Path(__file__).resolve().parents[3] / "docs" / "from-torchrl.md"
ROW = re.compile(r"^\| (`(?P<old>[^`]+)`|none) \| `(?P<new>[^`]+)`[^|]*\|$", re.M)


def rows(text: str) -> list[tuple[str | None, str]]:
    """Old and new code of every row of the tables; AssertionError where one is not read."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    text = "\n".join(re.sub(r"\((`[^|]*)\) \|$", "(note) |", line) for line in lines)
    found = [(match["old"], match["new"]) for match in ROW.finditer(text)]
    heads = [line for line in lines if line.startswith(("|---", "| TorchRL |"))]
    assert len(found) + len(heads) == len(lines), "a row has another form"
    return found


def test_the_page_has_rows_and_one_of_another_form_is_seen() -> None:
    assert len(rows(PAGE.read_text("utf-8"))) == 26
    with pytest.raises(AssertionError, match="another form"):
        rows("| TorchRL | Reverie |\n|---|---|\n| `a` | b |\n")


@pytest.mark.filterwarnings("ignore")  # frameworks' own: of versions, of devices
def test_each_row_runs_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    pytest.importorskip("torchrl", reason="needs TorchRL: nox -s torchrl")
    pytest.importorskip("gymnasium", reason="needs gymnasium")
    samplers = importlib.import_module("torchrl.data.replay_buffers.samplers")
    try:
        samplers.PrioritizedSampler(8, 1.0, 1.0)
    except RuntimeError as error:
        pytest.skip(f"TorchRL's own priorities do not run with this PyTorch: {error}")
    envs = importlib.import_module("torchrl.envs")
    scheduler = importlib.import_module("torchrl.data.replay_buffers.scheduler")
    shared = {
        "reverie": reverie,
        "transform": lambda batch: batch,
        "policy": None,
        "Collector": importlib.import_module("torchrl.collectors").Collector,
        "LinearScheduler": scheduler.LinearScheduler,
        "MultiStepTransform": importlib.import_module(
            "torchrl.envs.transforms.rb_transforms"
        ).MultiStepTransform,
        "ReplayBufferTrainer": importlib.import_module("torchrl.trainers").ReplayBufferTrainer,
    }
    sides: list[dict[str, Any]] = []
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        data = World(2).collect(20)
        data["next", "reward"] = data["next", "reward"].float()
        mine = {"data": data, "env": envs.GymEnv("CartPole-v1")}
        sides.append({**shared, **mine, "generator": torch.Generator()})
    for pair in rows(PAGE.read_text("utf-8")):
        for name, code, names in zip(("old", "new"), pair, sides, strict=True):
            monkeypatch.chdir(tmp_path / name)
            for part in [] if code is None else ast.parse(code).body:
                exec(compile(ast.Module([part], []), code or "", "exec"), names)
    old, new = (names["prioritized"] for names in sides)
    assert type(new) is not type(old)
    assert len(new) == len(old) == 40
