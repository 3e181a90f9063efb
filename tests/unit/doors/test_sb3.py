"""Stable-Baselines3's and CleanRL's calls, against a list of transitions."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import numpy as np
import pytest

from reverie.errors import InvalidArgumentError, WaitTimeoutError

torch = pytest.importorskip("torch", reason="needs PyTorch")
spaces = pytest.importorskip("gymnasium", reason="needs gymnasium").spaces
sb3 = importlib.import_module("reverie.sb3")

BOX = spaces.Box(-1, 1, (3,), np.float32)


def steps(count: int, n_envs: int, length: int) -> list[tuple[Any, ...]]:
    """Steps of environments whose episodes have `length`, every other one cut off by time."""
    found = []
    for t in range(count):
        obs = np.array([[e, t, 0] for e in range(n_envs)], np.float32)
        after = obs + np.float32([0, 1, 0])
        done = np.full(n_envs, t % length == length - 1)
        timeout = done & (t // length % 2 == 1)
        if done.any():
            after[:, 2] = 9  # the last state of an episode is no other's first
        infos = [{"TimeLimit.truncated": bool(cut)} for cut in timeout]
        found.append(
            (obs, after, np.full(n_envs, t % 2), np.full(n_envs, float(t)), done, infos)
        )
    return found


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("handle", [True, False])
def test_samples_are_the_transitions_that_were_added(n_envs: int, handle: bool) -> None:
    buffer = sb3.ReplayBuffer(
        20 * n_envs + n_envs // 2,
        BOX,
        spaces.Discrete(2),
        "cpu",
        n_envs=n_envs,
        handle_timeout_termination=handle,
    )
    known = {}
    for n, (obs, after, action, reward, done, infos) in enumerate(steps(35, n_envs, 4)):
        buffer.add(obs, after, action, reward, done, infos)
        assert (buffer.size(), buffer.pos) == (min(n + 1, 20), (n + 1) % 20)
        assert buffer.full is (n >= 19)
        for e in range(n_envs):
            end = done[e] and not (handle and infos[e]["TimeLimit.truncated"])
            known[e, n] = (obs[e], after[e], action[e], reward[e], end)
    found = buffer.sample(2_000)
    assert found.discounts is None
    assert found.actions.dtype == torch.int64
    for tensor, shape in (
        (found.observations, (2_000, 3)),
        (found.actions, (2_000, 1)),
        (found.dones, (2_000, 1)),
        (found.rewards, (2_000, 1)),
    ):
        assert tensor.shape == shape
    assert found.dones.dtype == found.rewards.dtype == torch.float32
    seen = set()
    for row in zip(*(each.numpy() for each in found[:5]), strict=True):
        obs, action, after, done, reward = row
        where = int(obs[0]), int(obs[1])
        seen.add(where)
        wanted = known[where]
        assert np.array_equal(obs, wanted[0])
        assert np.array_equal(after, wanted[1])
        assert (action[0], reward[0], done[0]) == (wanted[2], wanted[3], float(wanted[4]))
    assert seen == {(e, t) for e in range(n_envs) for t in range(15, 35)}


def test_an_episode_that_is_cut_off_unsaid_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As CleanRL does it: terminations alone, and the last state put back."""
    buffer = sb3.ReplayBuffer(100, BOX, BOX, handle_timeout_termination=False)
    for obs, after, _, reward, _, _ in steps(20, 1, 4):
        with caplog.at_level(logging.WARNING):
            buffer.add(obs, after, np.zeros((1, 3)), reward, np.array([False]), {})
    assert not caplog.records
    found = buffer.buffer.steps()
    assert found.truncated.sum() == 4  # the fifth goes on
    assert (found.next_observation[3::4, 2] == 9).all()
    assert found.action.dtype == np.float32


def test_discrete_states_extend_reset_and_the_seed() -> None:
    def make() -> Any:
        np.random.seed(5)
        buffer = sb3.ReplayBuffer(10, spaces.Discrete(7), spaces.MultiDiscrete([2, 3]))
        count = 6
        buffer.extend(
            np.arange(count)[:, None],
            np.arange(1, count + 1)[:, None],
            np.tile([1, 2], (count, 1, 1)),
            np.ones((count, 1)),
            np.zeros((count, 1)),
            [[{}]] * count,
        )
        return buffer

    first, second = make(), make()
    found = first.sample(20)
    assert found.observations.shape == (20, 1)
    assert found.actions.tolist() == [[1, 2]] * 20
    assert torch.equal(found.next_observations, found.observations + 1)
    assert torch.equal(found.observations, second.sample(20).observations)
    first.reset()
    assert (first.size(), first.pos, first.full, len(first)) == (0, 0, False, 0)
    with pytest.raises(WaitTimeoutError, match="empty"):
        first.sample(1)


def test_what_normalizes_is_applied() -> None:
    class Normalize:
        def normalize_obs(self, obs: Any) -> Any:
            return obs * 2

        def normalize_reward(self, reward: Any) -> Any:
            return reward.astype(np.float64) / 2

    buffer = sb3.ReplayBuffer(10, BOX, BOX)
    buffer.add(np.ones((1, 3)), np.ones((1, 3)), np.ones((1, 3)), [4.0], [True], [{}])
    found = buffer.sample(2, env=Normalize())
    assert found.observations.tolist() == found.next_observations.tolist() == [[2.0] * 3] * 2
    assert found.rewards.tolist() == [[2.0]] * 2
    assert found.rewards.dtype == torch.float32


def test_spaces_of_several_arrays_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="observation_space: found Dict"):
        sb3.ReplayBuffer(10, spaces.Dict({"a": BOX}), BOX)
    with pytest.raises(InvalidArgumentError, match="action_space: found Tuple"):
        sb3.ReplayBuffer(10, BOX, spaces.Tuple([BOX]))
