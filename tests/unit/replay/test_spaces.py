"""What gymnasium's spaces become in a buffer, and which cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

gym = pytest.importorskip("gymnasium", reason="gymnasium is not installed")

import optree  # noqa: E402
from gymnasium import spaces  # noqa: E402

import reverie  # noqa: E402
from reverie.errors import InvalidArgumentError, SpecError  # noqa: E402

ACTIONS = {
    "box": spaces.Box(-1, 1, (2, 3), np.float64),
    "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "discrete": spaces.Discrete(7, start=-3),
    "multi discrete": spaces.MultiDiscrete([3, 4]),
    "multi binary": spaces.MultiBinary(5),
    "dict": spaces.Dict({"turn": spaces.Discrete(3), "push": spaces.Box(0, 1, (2,))}),
    "tuple": spaces.Tuple((spaces.Box(0, 1, ()), spaces.MultiBinary(2))),
    "nested": spaces.Dict(
        {"b": spaces.Tuple((spaces.Discrete(2), spaces.Dict({"c": spaces.Discrete(9)})))}
    ),
}


class Any_(gym.Env[Any, Any]):
    """An environment of two spaces, without end; observations are drawn."""

    def __init__(self, observation: Any, action: Any) -> None:
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), 0.5, False, False, {}


def same(found: Any, wanted: Any) -> bool:
    leaves, structure = optree.tree_flatten(wanted)
    pairs = zip(structure.flatten_up_to(found), leaves, strict=True)
    return all(np.array_equal(a, b) and a.dtype == np.asarray(b).dtype for a, b in pairs)


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_and_observations_of_every_space_come_back(name: str) -> None:
    space = ACTIONS[name]
    envs = gym.vector.SyncVectorEnv([lambda: Any_(space, space)] * 3)
    buffer = reverie.ReplayBuffer.for_env(envs, 100)
    obs, _ = envs.reset()
    steps = []
    for _ in range(4):
        action = envs.action_space.sample()
        next_obs, *came = envs.step(action)
        assert buffer.add(obs, action, came[0], next_obs, *came[1:]) == 3
        steps.append((obs, action, next_obs))
        obs = next_obs
    data = buffer.steps().data
    keys = ("observation", "action", "next_observation")
    for key, nests in zip(keys, zip(*steps, strict=True), strict=True):
        assert same(data[key], optree.tree_map(lambda *each: np.concatenate(each), *nests))
    assert data["reward"].tolist() == [0.5] * 12


@pytest.mark.parametrize("name", ACTIONS)
def test_so_they_do_of_a_single_environment(name: str) -> None:
    env = Any_(ACTIONS[name], ACTIONS[name])
    buffer = reverie.ReplayBuffer.for_env(env, 100)
    obs, _ = env.reset()
    action, (next_obs, *came) = env.action_space.sample(), env.step(None)
    assert buffer.add(obs, action, came[0], next_obs, *came[1:]) == 1
    data = optree.tree_map(lambda leaf: leaf[0], buffer.steps().data)
    assert same(data["observation"], obs)
    assert same(data["action"], action)
    assert same(data["next_observation"], next_obs)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(5),
        spaces.Graph(spaces.Discrete(3), None),
        spaces.Sequence(spaces.Discrete(3)),
        spaces.OneOf([spaces.Discrete(3), spaces.Box(0, 1)]),
    ],
    ids=lambda space: type(space).__name__,
)
def test_what_has_no_fixed_shape_is_refused_by_name_and_path(space: Any) -> None:
    name = type(space).__name__
    with pytest.raises(SpecError, match=rf"'action'.* {name} space.* padded"):
        reverie.ReplayBuffer.for_env(Any_(spaces.Discrete(2), space), 10)
    inside = spaces.Dict({"a": spaces.Tuple((spaces.Discrete(2), space))})
    with pytest.raises(SpecError, match=rf"'observation/a/1'.* {name} space"):
        reverie.ReplayBuffer.for_env(Any_(inside, spaces.Discrete(2)), 10)


def test_what_is_no_environment_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"env: found str.*ReplayBuffer\(\{"):
        reverie.ReplayBuffer.for_env("CartPole-v1", 10)


@pytest.mark.parametrize("extra", [{"reward": np.zeros(3)}, ["logp"], "logp"])
def test_extra_must_be_other_keys(extra: Any) -> None:
    env = Any_(spaces.Discrete(2), spaces.Discrete(2))
    with pytest.raises(InvalidArgumentError, match=r"extra: found .*other keys"):
        reverie.ReplayBuffer.for_env(env, 10, extra=extra)


def test_extra_columns_come_back() -> None:
    env = Any_(spaces.Discrete(2), spaces.Discrete(2))
    spec = {"logp": np.zeros((), np.float32), "hidden": {"h": np.zeros(2)}}
    buffer = reverie.ReplayBuffer.for_env(env, 10, extra=spec)
    extra = {"logp": -0.5, "hidden": {"h": [1.0, 2.0]}}
    buffer.add(0, 1, 2.0, 1, False, False, extra=extra)
    data = buffer.steps().data
    assert data["logp"].tolist() == [-0.5]
    assert data["hidden"]["h"].tolist() == [[1, 2]]
