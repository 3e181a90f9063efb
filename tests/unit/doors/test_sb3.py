"""Stable-Baselines3's and CleanRL's calls, against a list of transitions."""

from __future__ import annotations

import importlib
import logging
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie.errors import InvalidArgumentError, StepMismatchError, WaitTimeoutError

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
    with pytest.raises(WaitTimeoutError, match="add steps before you sample"):
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


def test_spaces_that_sb3_has_not_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="observation_space: found Tuple"):
        sb3.ReplayBuffer(10, spaces.Tuple([BOX]), BOX)
    with pytest.raises(InvalidArgumentError, match="observation_space: found Dict"):
        sb3.ReplayBuffer(10, spaces.Dict({"a": spaces.Dict({"b": BOX})}), BOX)
    with pytest.raises(InvalidArgumentError, match=r"found Box.* wanted a Dict"):
        sb3.DictReplayBuffer(10, BOX, BOX)
    with pytest.raises(InvalidArgumentError, match="action_space: found Tuple"):
        sb3.ReplayBuffer(10, BOX, spaces.Tuple([BOX]))
    with pytest.raises(InvalidArgumentError, match="action_space: found Dict"):
        sb3.ReplayBuffer(10, BOX, spaces.Dict({"a": BOX}))


def test_arguments_of_other_shapes_are_refused_and_nothing_is_stored() -> None:
    dicts = sb3.DictReplayBuffer(10, spaces.Dict({"a": BOX, "b": BOX}), BOX, n_envs=2)
    plain = sb3.ReplayBuffer(10, BOX, BOX, n_envs=2)
    zeros, ends = np.zeros((2, 3)), [False, False]
    for buffer, obs, infos, error, words in (
        (plain, zeros[0], [{}] * 2, StepMismatchError, r"obs: found shape \(3,\).*2 env"),
        (dicts, {"a": zeros}, [{}] * 2, StepMismatchError, r"obs: found \['a'\].*'b'"),
        (dicts, zeros, [{}] * 2, StepMismatchError, "obs: found 'ndarray'.*dict"),
        (
            dicts,
            {"a": zeros, "b": zeros[0]},
            [{}] * 2,
            StepMismatchError,
            r"obs\['b'\]: found shape",
        ),
        (plain, zeros, {}, InvalidArgumentError, "infos: found {}, wanted a list of 2"),
        (plain, zeros, [{}], InvalidArgumentError, r"infos: found \[{}\], wanted a list of 2"),
        (plain, zeros, [None, {}], InvalidArgumentError, "handle_timeout_termination=False"),
    ):
        after = {"a": zeros, "b": zeros} if buffer is dicts else zeros
        with pytest.raises(error, match=words):
            buffer.add(obs, after, zeros, [0, 0], ends, infos)
        assert len(buffer) == buffer.size() == 0
        assert buffer


def test_arrays_of_a_dict_space_and_tensors() -> None:
    buffer = sb3.DictReplayBuffer(4, spaces.Dict({"a": BOX, "b": spaces.Discrete(9)}), BOX)
    for t in range(6):
        obs, after = ({"a": np.full((1, 3), n), "b": [n]} for n in (t, t + 1))
        buffer.add(obs, after, np.full((1, 3), t), [t], [t == 5], [{}])
    assert buffer.obs_shape == {"a": (3,), "b": (1,)}
    assert buffer.observations["b"][:, 0, 0].tolist() == [4, 5, 2, 3]
    assert buffer.next_observations["a"][:, 0, 0].tolist() == [5, 6, 3, 4]
    assert buffer.dones[:, 0].tolist() == [0, 1, 0, 0]
    found = buffer.sample(50)
    assert type(found) is sb3.DictReplayBufferSamples
    assert torch.equal(found.next_observations["b"], found.observations["b"] + 1)
    array = np.zeros(2)
    shared, copied = buffer.to_torch(array, copy=False), buffer.to_torch(array)
    array[0] = 1
    assert shared.tolist() == [1, 0]
    assert copied.tolist() == [0, 0]


BASES = Path(sb3.__file__).with_name("bases.py")


@pytest.fixture
def forget_sb3() -> Iterator[Callable[[], None]]:
    """Forgets what was imported of it; afterwards it is as it was."""

    def modules() -> dict[str, Any]:
        return {n: m for n, m in sys.modules.items() if n.startswith("stable_baselines3")}

    def forget() -> None:
        for name in modules():
            del sys.modules[name]

    before = modules()
    yield forget
    forget()
    sys.modules.update(before)


def test_an_untested_version_is_told_and_a_broken_one_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_sb3: Callable[[], None]
) -> None:
    fake = tmp_path / "stable_baselines3" / "__init__.py"
    for part, names in (
        ("common/buffers", ["DictReplayBuffer", "NStepReplayBuffer", "ReplayBuffer"]),
        ("common/type_aliases", ["DictReplayBufferSamples", "ReplayBufferSamples"]),
        ("her/her_replay_buffer", ["HerReplayBuffer"]),
    ):
        path = tmp_path / "stable_baselines3" / f"{part}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(f"class {name}: pass" for name in names), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a file changes within a second

    def has_sb3(source: str) -> bool:
        forget_sb3()
        fake.write_text(source, "utf-8")
        found: bool = runpy.run_path(str(BASES))["HAS_SB3"]
        return found

    assert has_sb3("__version__ = '2.9.7'")
    with pytest.warns(UserWarning, match=r"found Stable-Baselines3 3\.14\.0.*with 2\.9"):
        has_sb3("__version__ = '3.14.0'")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        has_sb3("import no_such_package")
    sys.modules["stable_baselines3"] = None  # type: ignore[assignment]
    assert not runpy.run_path(str(BASES))["HAS_SB3"]
