"""The page for who comes from Flashbax: each row runs, and both sides give the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.page_support import (
    DOCS,
    always,
    printed,
    programs,
    rows,
    run_rows,
    transitions,
    walks,
)

TEXT = (DOCS / "from-flashbax.md").read_text("utf-8")
PAGE = rows(TEXT, "Flashbax")
STEPS = walks(2)
REPEATED = {row.old: always for row in PAGE if row.old and "add(state" in row.old}
(WHOLE,) = transitions(STEPS)
INNER = WHOLE[WHOLE[:, 4] < 5]  # whose next state is no final one
REWARDS = WHOLE[:, 3]
SHARES = REWARDS**0.6 / (REWARDS**0.6).sum()
# Three steps in one episode: their states, and their rewards.
WINDOWS = [
    [[t, n], [t + 1, n], [t + 2, n], 1 + t + 10 * n, 2 + t + 10 * n, 3 + t + 10 * n]
    for n in range(4)
    for t in range(3)
]


def flat(window: list[Any]) -> list[float]:
    return [*window[0], *window[1], *window[2], *window[3:]]


def is_count(value: Any) -> bool:
    return int(value) == 20


WANTED: dict[str, Any] = {
    "len(buffer) >= 2": True,
    **{
        row.new: (INNER[:, :6],)
        for row in PAGE
        if row.new and row.new.startswith("inner = ~(batch.terminated")
    },
    "batch.observation, batch.action, batch.reward, batch.next_observation, batch.terminated": (
        WHOLE,
    ),
    "buffer.sample(1000, view=views.Transitions(n_step=3, gamma=0.5)).discount": lambda found: (
        set(found.tolist()) == {0.125, 0.25, 0.5, 0}
    ),
    "len(buffer)": is_count,
    'buffer.save(path="steps")': lambda made: made == 10 or made.exists(),
    "jnp.mean(on_device.reward + on_device.discount).shape": (),
    "batch.observation, batch.action, batch.reward, batch.next_observation": (WHOLE[:, :6],),
    "buffer.update_priorities(batch.key, batch.reward)": 0,
    "batch.reward, batch.probability": (REWARDS, SHARES),
    "batch.reward, batch.weight": (REWARDS, (SHARES / SHARES.min()) ** -0.4),
    "batch.observation, batch.reward": (np.array([flat(each) for each in WINDOWS]),),
    'mixer.sample(8).data["reward"].shape': lambda shape: shape[0] == 8,
}
WANTED |= {row.new: 5 for row in PAGE if row.new and row.new.startswith("buffer.add_episode(")}


def needs_jax(code: str | None) -> bool:
    return code is not None and any(word in code for word in ("jnp.", "arrays", "on_device"))


def test_each_row_runs_on_our_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = [row for row in PAGE if not needs_jax(row.new)]
    assert run_rows(page, "new", {"np": np}, STEPS, REPEATED, WANTED) > 20


def test_the_rows_into_jax_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "np": np,
        "jnp": pytest.importorskip("jax.numpy", reason="needs JAX: nox -s doors"),
    }
    monkeypatch.chdir(tmp_path)
    assert run_rows(PAGE, "new", names, STEPS, REPEATED, WANTED) > 25


def test_each_row_runs_on_flashbaxs_side_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("flashbax", reason="needs Flashbax: nox -s peers")
    import jax

    monkeypatch.chdir(tmp_path)
    names = {"np": np, "jax": jax, "jnp": jax.numpy}
    steps = [{**step, "action": step["action"].astype(np.int32)} for step in STEPS]
    assert run_rows(PAGE, "old", names, steps, REPEATED, WANTED) > 25


def test_the_program_runs(tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="needs JAX: nox -s doors")
    assert printed(programs(TEXT)[1], tmp_path) == "[1 1 1 1 1 1 1] 1.0\n"


def test_flashbaxs_program_prints_the_same(tmp_path: Path) -> None:
    if importlib.util.find_spec("flashbax") is None:
        pytest.skip("needs Flashbax: nox -s peers")
    before, after = programs(TEXT)
    assert printed(before, tmp_path, warnings="default") == printed(after, tmp_path)
