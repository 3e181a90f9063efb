"""The page for who comes from CleanRL: each row runs, and both sides give the same."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.page_support import (
    DOCS,
    InTurn,
    Row,
    always,
    printed,
    programs,
    rows,
    run_rows,
    transitions,
    walks,
)

import reverie

pytest.importorskip("torch", reason="needs PyTorch: nox -s doors")
spaces = pytest.importorskip("gymnasium", reason="needs Gymnasium: nox -s doors").spaces

TEXT = (DOCS / "from-cleanrl.md").read_text("utf-8")
PAGE = rows(TEXT, "CleanRL")
FIRST = next(n for n, row in enumerate(PAGE) if row.old and "Prioritized" in row.old)
SHARED, RAINBOW = PAGE[:FIRST], PAGE[FIRST:]
REPEATED = {row.old: always for row in PAGE if row.old and ".add(" in row.old}
REPEATED |= {"real_next_obs = next_obs.copy()": always}
SOURCE = os.environ.get("CLEANRL_SRC")
NO_SOURCE = "CLEANRL_SRC is not set: a checkout of github.com/vwxyzjn/cleanrl"


def named(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With CleanRL's names."""
    return [
        {
            **step,
            "real_next_obs": step["next_obs"],
            "actions": step["action"],
            "rewards": step["reward"],
            "terminations": step["terminated"],
            "truncations": step["truncated"],
            "infos": [{}, {}],
        }
        for step in steps
    ]


STEPS, ALONE = named(walks(2)), named(walks(episodes=3))
BATCHED = [{name: np.asarray(leaf)[None] for name, leaf in step.items()} for step in ALONE]
for step in BATCHED:  # images
    step |= {name: step[name].astype(np.uint8) for name in ("obs", "next_obs")}
(WHOLE,) = transitions(STEPS)
TARGETS = WHOLE[:, 3] + 0.5 * WHOLE[:, 4] * (1 - WHOLE[:, 6])
RETURNS = np.array(
    [
        [t, n, (t + n) % 2, 1.75 * (1 + t + 10 * n) + 1, t + 3, n]
        for n in range(3)
        for t in range(3)
    ]
)
FIELDS = "data.observations, data.actions, data.rewards, data.next_observations, data.dones"
OURS = "batch.observation, batch.action, batch.reward, batch.next_observation, batch.terminated"
WANTED: dict[str, Any] = {
    FIELDS: (WHOLE,),
    OURS: (WHOLE,),
    "data.rewards.flatten().shape, data.actions.shape": ((1000,), (1000, 1)),
    "data.rewards.shape, data.actions.shape": ((1000, 1), (1000, 1)),
    "batch.reward.shape, batch.action.shape": ((1000,), (1000,)),
    "rb.size(), rb.buffer_size, rb.pos, rb.full": (10, 500, 10, False),
    "data.observations, target": (WHOLE[:, :2], TARGETS),
    "batch.observation, target": (WHOLE[:, :2], TARGETS),
    "rb.buffer.sample(8, view=reverie.views.Sequences(4)).mask.shape": (8, 4),
    'buffer.save(path="replay")': lambda path: path.exists(),
}
WANTED_OF_RAINBOW: dict[str, Any] = {
    row.new: (RETURNS,) for row in RAINBOW if row.new and row.new.startswith("whole")
} | {
    "set(batch.discount.tolist())": {0.125, 0.25, 0.5, 0},
    "batch.weight[:, None].shape": (500, 1),
    "buffer.update_priorities(batch.key, batch.reward)": 0,
    "len(buffer)": 15,
}


def names() -> dict[str, Any]:
    return {
        "np": np,
        "reverie": reverie,
        "single_observation_space": spaces.Box(-100, 100, (2,), np.float32),
        "single_action_space": spaces.Discrete(2),
    }


def wanted(side: str) -> dict[str, Any]:
    return WANTED | {"len(buffer)": 20 if side == "old" else InTurn((20, 20))}


def test_each_row_runs_on_our_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_rows(SHARED, "new", names(), STEPS, REPEATED, wanted("new")) > 20


def test_each_row_runs_on_cleanrls_side_and_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if SOURCE:
        monkeypatch.syspath_prepend(SOURCE)
    else:
        reason = f"needs Stable-Baselines3, nox -s peers; {NO_SOURCE}"
        theirs = pytest.importorskip("stable_baselines3.common.buffers", reason=reason)
        monkeypatch.setitem(sys.modules, "cleanrl_utils", theirs)
        monkeypatch.setitem(sys.modules, "cleanrl_utils.buffers", theirs)
    assert importlib.import_module("cleanrl_utils.buffers")
    assert run_rows(SHARED, "old", names(), STEPS, REPEATED, wanted("old")) > 15


def test_rainbows_rows_run_on_our_side() -> None:
    given = names() | {"tensors": importlib.import_module("reverie.torch").tensors}
    assert run_rows(RAINBOW, "new", given, BATCHED, REPEATED, WANTED_OF_RAINBOW) == len(RAINBOW)


def test_rainbows_rows_run_on_cleanrls_side_and_give_the_same() -> None:
    if not SOURCE:
        pytest.skip(NO_SOURCE)
    script = ast.parse(Path(SOURCE, "cleanrl", "rainbow_atari.py").read_text("utf-8"))
    parts = ("PrioritizedBatch", "SumSegmentTree", "MinSegmentTree", "PrioritizedReplayBuffer")
    kept = [
        node
        for node in script.body
        if getattr(node, "name", "") in parts
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in parts)
    ]
    code = "import collections\nfrom collections import deque\nimport numpy as np\nimport torch"
    module = ast.Module([*ast.parse(code).body, *kept], [])
    given = names()
    exec(compile(module, "rainbow_atari.py", "exec"), given)
    assert run_rows(RAINBOW, "old", given, ALONE, REPEATED, WANTED_OF_RAINBOW) == 7
    # What the page says of its window: of 15 steps these rows, some of two episodes.
    rb = given["rb"]
    stored = zip(rb.buffer_obs[: rb.size], rb.buffer_next_obs[: rb.size], strict=True)
    crossing = [(int(a[0]), int(b[0])) for a, b in stored if a[1] != b[1]]
    assert (rb.size, crossing) == (11, [(3, 1), (4, 2)])


def test_the_program_runs(tmp_path: Path) -> None:
    assert printed(programs(TEXT)[1], tmp_path).startswith("1000 ")


def test_cleanrls_program_prints_the_same(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3", reason="needs Stable-Baselines3: nox -s peers")
    before, after = programs(TEXT)
    assert printed(before, tmp_path, warnings="default") == printed(after, tmp_path)


def test_the_tables_are_split_where_rainbow_begins() -> None:
    assert isinstance(RAINBOW[0], Row)
    assert len(RAINBOW) == 9
