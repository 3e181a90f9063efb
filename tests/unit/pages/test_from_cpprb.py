"""The page for who comes from cpprb: each row runs, and both sides give the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.page_support import (
    DOCS,
    always,
    at_ends,
    printed,
    programs,
    rows,
    run_rows,
    transitions,
    walks,
)

import reverie

TEXT = (DOCS / "from-cpprb.md").read_text("utf-8")
PAGE = rows(TEXT, "cpprb")
STEPS = walks()
REPEATED = {
    "rb.add(obs=obs, act=action, rew=reward, next_obs=next_obs, done=terminated)": always,
    "rb.on_episode_end()": at_ends,
}
REWARDS = np.array([step["reward"] for step in STEPS])
EXPECTED = transitions(STEPS)
RETURNS = transitions(STEPS, 3, 0.5)[0]
# Of priorities that are the rewards: (p_min / p) ** (alpha * beta).
WEIGHTS = (REWARDS, (REWARDS.min() / REWARDS) ** (0.6 * 0.4))
SHAPES = 'batch["act"].shape, batch["rew"].shape'
WANTED: dict[str, Any] = {
    "len(rb), rb.capacity": (10, 1000),
    "len(rb)": 10,
    "tuple(batch.data[key] for key in "
    '("obs", "act", "rew", "next_obs", "terminated"))': EXPECTED,
    SHAPES: ((1000, 1), (1000, 1)),
    'batch.data["act"].shape, batch.data["rew"].shape': ((1000,), (1000,)),
    'rb.steps().data["rew"]': REWARDS,
    "sum(len(part.key) for part in rb.epoch(4))": 10,
    'rb.save(path="steps")': lambda path: path.exists(),
    "rb.episodes()": lambda found: [len(each["rew"]) for each in found] == [5, 5],
    'rb.update_priorities(batch.key, batch.data["rew"])': 0,
    "rb.steps().info.priority.max()": lambda value: np.isclose(value, 15, atol=1e-4),
    'batch.data["rew"], batch.weight': WEIGHTS,
    'batch.data["obs"], batch.data["act"], batch.data["rew"]': (RETURNS[:, :4],),
    # gamma ** m, and 0 for all that reach the end of the episode that terminated.
    "batch.discount": lambda found: set(found.tolist()) == {0.125, 0.25, 0.5, 0},
    'rb.sample(8, view=views.Sequences(4)).data["mask"].shape': (8, 4),
}
BUILT = ("views.Hindsight", "ReplayBuffer(spec, 1000, ")
for row in PAGE:
    if row.new and row.new.startswith(BUILT):
        WANTED[row.new] = lambda made: made is not None
WANTED[PAGE[-1].new or ""] = 3


def names() -> dict[str, Any]:
    three = walks(3)[0]
    return {
        "np": np,
        "reverie": reverie,
        "step_of_three": [three[key] for key in three],
    }


def test_each_row_runs_on_our_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_rows(PAGE, "new", names(), STEPS, REPEATED, WANTED) > 30


def test_each_row_runs_on_cpprbs_side_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cpprb", reason="needs cpprb: nox -s peers")
    monkeypatch.chdir(tmp_path)
    assert run_rows(PAGE, "old", names(), STEPS, REPEATED, WANTED) > 25


def test_the_program_runs(tmp_path: Path) -> None:
    assert printed(programs(TEXT)[1], tmp_path) == "[1 1 1 1 1 1 1] 0.53\n"


def test_cpprbs_program_prints_the_same(tmp_path: Path) -> None:
    pytest.importorskip("cpprb", reason="needs cpprb: nox -s peers")
    before, after = programs(TEXT)
    assert printed(before, tmp_path) == printed(after, tmp_path)


def test_cpprbs_tails_are_what_the_page_says() -> None:
    cpprb = pytest.importorskip("cpprb", reason="needs cpprb: nox -s peers")
    columns: dict[str, Any] = {"obs": {}, "rew": {}, "next_obs": {}, "done": {}}
    folded = {"size": 3, "gamma": 0.5, "rew": "rew", "next": "next_obs"}
    rb = cpprb.ReplayBuffer(100, columns, Nstep=folded)
    for t in range(5):
        rb.add(obs=t, rew=1.0, next_obs=t + 1, done=False)
    rb.on_episode_end()
    assert rb.get_all_transitions()["next_obs"][:3, 0].tolist() == [3, 4, 5]
    assert (rb.get_all_transitions()["next_obs"][3:, 0] != 5).all()


def test_cpprbs_indexes_are_its_own_memory() -> None:
    cpprb = pytest.importorskip("cpprb", reason="needs cpprb: nox -s peers")
    rb = cpprb.PrioritizedReplayBuffer(4, {"obs": {}, "done": {}})
    rb.add(obs=0, done=False)
    assert not rb.sample(1)["indexes"].flags.owndata


def test_cpprbs_indexes_and_largest_priority_are_what_the_page_says() -> None:
    cpprb = pytest.importorskip("cpprb", reason="needs cpprb: nox -s peers")
    rb = cpprb.PrioritizedReplayBuffer(4, {"obs": {}, "done": {}})
    for t in range(4):
        rb.add(obs=t, done=False)
    late = np.array(rb.sample(1, beta=0.4)["indexes"])
    rb.update_priorities([0, 1, 2, 3], [100.0, 1, 1, 1])
    for t in range(4, 8):
        rb.add(obs=t, done=False)
    rb.update_priorities([0, 1, 2, 3], [1.0, 1, 1, 1])
    assert rb.get_max_priority() == 100  # none of those is there
    rb.update_priorities(late, [1e9])  # of a step that has left
    assert set(rb.sample(100, beta=0.4)["obs"][:, 0]) == {float(late[0] + 4)}
