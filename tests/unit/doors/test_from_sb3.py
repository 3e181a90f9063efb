"""The page for who comes from SB3: each row of its tables runs, on both sides."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "from-sb3.md"
ROW = re.compile(r"^\| (`(?P<old>[^`]+)`|none[^|]*) \| `(?P<new>[^`]+)`[^|]*\|$", re.M)


def rows(text: str) -> list[tuple[str | None, str]]:
    """Old and new code of every row of the tables; AssertionError where one is not read."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    found = [(match["old"], match["new"]) for match in ROW.finditer(text)]
    heads = [line for line in lines if line.startswith(("|---", "| Stable-Baselines3"))]
    assert len(found) + len(heads) == len(lines), "a row has another form"
    return found


def calls() -> str:
    """The page but for its last section, whose tables are of figures."""
    text, _, figures = PAGE.read_text("utf-8").partition("\n## Does it learn the same?\n")
    assert figures
    assert "\n## " not in figures
    return text


def evaluated(code: str, names: dict[str, Any]) -> Any:
    """Runs it; the value of its last part where that is an expression."""
    *first, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        first, last = [*first, last], None  # type: ignore[list-item]
    exec(compile(ast.Module(first, []), code, "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), code, "eval"), names)


def test_each_row_runs_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stable_baselines3", reason="needs Stable-Baselines3: nox -s sb3")
    spaces = importlib.import_module("gymnasium").spaces
    envs = importlib.import_module("stable_baselines3.common.envs")
    box = spaces.Box(-1, 1, (3,), np.float32)
    sides = []
    for side in ("old", "new"):
        (tmp_path / side).mkdir()
        zeros = np.zeros((2, 3), np.float32)
        sides.append(
            {
                "goal_env": envs.SimpleMultiObsEnv(discrete_actions=False),
                "box": box,
                "obs": zeros,
                "next_obs": zeros + 1,
                "action": zeros,
                "reward": np.ones(2),
                "done": np.array([False, True]),
                "infos": [{}, {"TimeLimit.truncated": True}],
            }
        )
    for row in rows(calls()):
        results = []
        for side, code, names in zip(("old", "new"), row, sides, strict=True):
            if code is None:
                continue
            monkeypatch.chdir(tmp_path / side)
            results.append(evaluated(code, names))
        if all(isinstance(each, tuple) and isinstance(each[0], int) for each in results):
            assert len(set(results)) == 1, row
    assert (tmp_path / "new" / "buffer.pkl").exists()


def test_rows_of_the_page_are_found_and_one_that_fails_is_seen() -> None:
    found = rows(calls())
    assert len(found) > 20
    assert sum(old is None for old, _ in found) == 8
    with pytest.raises(AssertionError, match="another form"):
        rows("| `a` | b |")
    with pytest.raises(NameError):
        evaluated(rows("| `1` | `x = 1; no_such_name` (words) |")[0][1], {})
    assert evaluated("x = 1; x + 1", {}) == 2
