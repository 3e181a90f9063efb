"""Steps of vector environments, against what each environment gives when run alone."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

gym = pytest.importorskip("gymnasium", reason="gymnasium is not installed")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from tests.gym_support import (  # noqa: E402
    BOTH,
    KINDS,
    TERMINATED,
    TRUNCATED,
    Scripted,
    alone,
    check,
    play,
    policy,
    steps_in,
    vector,
)

import reverie  # noqa: E402
from reverie.errors import InvalidArgumentError  # noqa: E402

MODES = ["NextStep", "SameStep", "Disabled"]
SCRIPTS = [
    [(3, TERMINATED), (1, TRUNCATED), (5, TRUNCATED)],
    [(1, TERMINATED)],
    [(2, TRUNCATED), (4, BOTH)],
    [(50, TERMINATED)],
]
scripts = st.lists(
    st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from([TERMINATED, TRUNCATED, BOTH])),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=5,
)


def expected(scripts: Any, calls: int, mode: str, kind: str = "box") -> Any:
    return [
        alone(seed, script, steps_in(script, calls, mode), kind)
        for seed, script in enumerate(scripts, 1)
    ]


def filled(mode: str, calls: int = 23, kind: str = "box", **settings: Any) -> Any:
    envs = vector(SCRIPTS, mode, kind)
    buffer = reverie.ReplayBuffer.for_env(envs, 1000, **settings)
    play(envs, buffer, calls, kind)
    return buffer


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_they_are_what_single_environments_give(
    mode: str, kind: str, n_step: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        buffer = filled(mode, kind=kind)
    check(buffer, expected(SCRIPTS, 23, mode, kind), kind, n_step)
    assert not caplog.records
    assert buffer.info().broken_episodes == 0


@given(
    scripts=scripts,
    mode=st.sampled_from(MODES),
    calls=st.integers(1, 20),
    n_step=st.sampled_from([1, 3]),
)
def test_so_they_are_whatever_the_episodes(
    scripts: Any, mode: str, calls: int, n_step: int
) -> None:
    envs = vector(scripts, mode)
    buffer = reverie.ReplayBuffer.for_env(envs, 1000)
    play(envs, buffer, calls)
    check(buffer, expected(scripts, calls, mode), n_step=n_step)


@pytest.mark.parametrize(
    ("mode", "other"), [("NextStep", "Disabled"), ("SameStep", "Disabled")]
)
def test_a_reset_that_is_overlooked_would_be_found(mode: str, other: str) -> None:
    buffer = filled(mode, autoreset=other)
    with pytest.raises(AssertionError):
        check(buffer, expected(SCRIPTS, 23, mode))


@pytest.mark.parametrize("mode", MODES)
def test_so_they_are_in_a_saved_buffer(mode: str, tmp_path: Path) -> None:
    filled(mode, kind="nested").save(path=tmp_path)
    opened = reverie.open(tmp_path)
    check(opened, expected(SCRIPTS, 23, mode, "nested"), "nested")
    check(opened, expected(SCRIPTS, 23, mode, "nested"), "nested", n_step=3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("was_told", [False, True])
def test_an_opened_buffer_knows_how_they_reset(
    mode: str, was_told: bool, tmp_path: Path
) -> None:
    filled("Disabled" if was_told else mode).save(path=tmp_path)
    if was_told:
        with reverie.open(tmp_path, autoreset=mode) as buffer:
            buffer.save()
    opened = reverie.open(tmp_path)
    before = len(opened)
    scripts = [[(1, TERMINATED), (3, TRUNCATED)], *SCRIPTS[:1]]
    play(vector(scripts, mode), opened, 11)
    found = opened.steps().data["observation"][before:]
    wanted = [[step.obs for step in steps] for steps in expected(scripts, 11, mode)]
    for seed, steps in enumerate(wanted, 1):
        assert np.array_equal(found[found[:, 0] == seed], steps)


def test_an_opened_buffer_can_be_told_how_environments_reset_now(tmp_path: Path) -> None:
    filled("Disabled").save(path=tmp_path)
    opened = reverie.open(tmp_path, autoreset="NextStep", num_envs=2)
    before = len(opened)
    scripts = [[(1, TERMINATED)], [(2, TERMINATED)]]
    play(vector(scripts, "NextStep"), opened, 6)
    assert len(opened) == before + 7
    for wrong in ({"autoreset": "never"}, {"num_envs": 0}):
        with pytest.raises(InvalidArgumentError, match="found"):
            reverie.open(tmp_path, **wrong)


def test_what_observers_wrote_has_no_environments(tmp_path: Path) -> None:
    with reverie.ReplayBufferManager({"n": np.zeros(())}, 10, tmp_path) as manager:
        _, observer = manager.create_replay_buffer()
        for _ in range(3):
            observer({"n": 0.0})
        manager.save()
    with pytest.raises(InvalidArgumentError, match="are for a ReplayBuffer's steps"):
        reverie.open(tmp_path, num_envs=2)


@given(
    scripts=scripts,
    turns=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), max_size=15),
    n_step=st.sampled_from([1, 3]),
)
def test_so_they_are_of_environments_that_come_as_they_are_ready(
    scripts: Any, turns: list[list[int]], n_step: int
) -> None:
    envs = [Scripted(seed, script) for seed, script in enumerate(scripts, 1)]
    states = [env.reset()[0] for env in envs]
    counts = [0] * len(envs)
    buffer = reverie.ReplayBuffer.for_env(envs[0], 1000, num_envs=len(envs))
    for turn in turns:
        ids = list(dict.fromkeys(i % len(envs) for i in turn))
        obs = np.stack([states[i] for i in ids])
        action = policy(obs.astype(np.int64))
        came = [envs[i].step(a) for i, a in zip(ids, action, strict=True)]
        next_obs, reward, terminated, truncated, _ = zip(*came, strict=True)
        buffer.add(obs, action, reward, np.stack(next_obs), terminated, truncated, env_ids=ids)
        for i, (state, _, *ends, _) in zip(ids, came, strict=True):
            counts[i] += 1
            states[i] = envs[i].reset()[0] if any(ends) else state
    steps = [
        alone(i, script, n)
        for i, (script, n) in enumerate(zip(scripts, counts, strict=True), 1)
    ]
    check(buffer, steps, n_step=n_step)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["box", "nested"])
def test_so_they_are_of_environments_in_other_processes(mode: str, kind: str) -> None:
    envs = vector(SCRIPTS, mode, kind, gym.vector.AsyncVectorEnv)
    try:
        buffer = reverie.ReplayBuffer.for_env(envs, 1000)
        play(envs, buffer, 9, kind)
    finally:
        envs.close()
    check(buffer, expected(SCRIPTS, 9, mode, kind), kind)


def test_a_single_environment_that_resets_itself_is_asked_too() -> None:
    env = gym.wrappers.Autoreset(Scripted(1, SCRIPTS[0]))
    buffer = reverie.ReplayBuffer.for_env(gym.wrappers.RecordEpisodeStatistics(env), 100)
    obs, _ = env.reset()
    for _ in range(23):
        action = int(policy(obs.astype(np.int64)))
        next_obs, *came = env.step(action)
        buffer.add(obs, action, came[0], next_obs, *came[1:])
        obs = next_obs
    check(buffer, expected(SCRIPTS[:1], 23, "NextStep"))


def test_of_a_single_environment_there_is_no_batch_axis() -> None:
    steps = alone(1, SCRIPTS[0], 20)
    buffer = reverie.ReplayBuffer.for_env(Scripted(1, SCRIPTS[0]), 100)
    assert sum(buffer.add(*step) for step in steps) == 20
    check(buffer, [steps])
    check(buffer, [steps], n_step=3)


def test_add_says_how_many_were_steps() -> None:
    envs = vector([[(1, TERMINATED)], [(2, TERMINATED)]], "NextStep")
    buffer = reverie.ReplayBuffer.for_env(envs, 100)
    obs, _ = envs.reset()
    counts = []
    for _ in range(6):
        action = policy(obs.astype(np.int64))
        next_obs, *came = envs.step(action)
        counts.append(buffer.add(obs, action, came[0], next_obs, *came[1:]))
        obs = next_obs
    assert counts == [2, 1, 1, 1, 2, 0]
    assert len(buffer) == 7


@pytest.mark.parametrize("when", range(1, 9))
@pytest.mark.parametrize("mode", MODES)
def test_a_reset_of_all_in_the_middle_begins_new_episodes(mode: str, when: int) -> None:
    envs = vector(SCRIPTS, mode)
    buffer = reverie.ReplayBuffer.for_env(envs, 1000)
    play(envs, buffer, when)
    before = len(buffer)
    play(envs, buffer, 1)  # which resets
    assert len(buffer) == before + len(SCRIPTS)  # a NextStep that was due is no more
    found = buffer.steps().data
    where, then = found["observation"], found["next_observation"]
    assert np.array_equal(where[:, :2], then[:, :2])  # nothing crosses an episode
    assert np.array_equal(where[:, 2] + 1, then[:, 2])


@pytest.mark.parametrize("when", range(1, 9))
@pytest.mark.parametrize("mode", MODES)
def test_what_comes_after_clear_is_right(mode: str, when: int) -> None:
    envs = vector(SCRIPTS, mode)
    buffer = reverie.ReplayBuffer.for_env(envs, 1000)

    def clear(call: int) -> None:
        if call == when:
            buffer.clear()
            assert len(buffer) == 0

    play(envs, buffer, 20, before=clear)
    whole = expected(SCRIPTS, 20, mode)
    gone = [len(steps) for steps in expected(SCRIPTS, when, mode)]
    check(buffer, [steps[n:] for steps, n in zip(whole, gone, strict=True)])
    assert buffer.info().broken_episodes == 0
