"""SB3's hindsight buffer, its calls over the view of hindsight."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import pytest

from reverie.errors import InvalidArgumentError

pytest.importorskip("torch", reason="needs PyTorch")
spaces = pytest.importorskip("gymnasium", reason="needs gymnasium").spaces
sb3 = pytest.importorskip("reverie.sb3")

SPACE = spaces.Dict(
    {
        "achieved_goal": spaces.Box(-1e6, 1e6, (2,), np.float32),
        "desired_goal": spaces.Box(-1e6, 1e6, (2,), np.float32),
        "observation": spaces.Box(-1e6, 1e6, (3,), np.float32),
    }
)
ACTIONS = spaces.Discrete(5)
LENGTH = 6


class Env:
    """What the buffer asks of SB3's vector environments; remembers how often."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def env_method(
        self, name: str, achieved: Any, desired: Any, infos: Any, indices: Any
    ) -> list[Any]:
        assert (name, indices) == ("compute_reward", [0])
        assert len(achieved) == len(desired) == len(infos)
        self.calls.append(len(infos))
        return [self.reward(achieved, desired)]

    @staticmethod
    def reward(achieved: Any, desired: Any) -> Any:
        return -(np.abs(achieved - desired).sum(axis=-1) > 0.5).astype(np.float64)


def observation(number: int, env: int, wanted: int) -> dict[str, Any]:
    at = 1000 * env + number
    return {
        "achieved_goal": np.full(2, at, np.float32),
        "desired_goal": np.full(2, wanted, np.float32),
        "observation": np.full(3, at, np.float32),
    }


def made(n_envs: int = 2, **settings: Any) -> Any:
    np.random.seed(0)
    return sb3.HerReplayBuffer(
        400, SPACE, ACTIONS, settings.pop("env", Env()), "cpu", n_envs, **settings
    )


def fill(buffer: Any, episodes: int = 5) -> None:
    """Episode k of environment e has the states 1000 e + 10 k + 0, 1, ... and wants -k."""
    for k in range(episodes):
        for t in range(LENGTH):
            rows = [
                [observation(10 * k + t + i, env, -k) for env in range(buffer.n_envs)]
                for i in (0, 1)
            ]
            obs, after = (
                {key: np.stack([r[key] for r in row]) for key in row[0]} for row in rows
            )
            last = t == LENGTH - 1
            infos = [{"TimeLimit.truncated": last and k % 2 == 0}] * buffer.n_envs
            actions = np.full((buffer.n_envs, 1), t % 5)
            buffer.add(obs, after, actions, np.full(buffer.n_envs, 7.0), [last] * 2, infos)


def look(samples: Any, strategy: str) -> int:
    """Checks each row; how many were relabelled."""
    obs, after = samples.observations, samples.next_observations
    number = obs["observation"][:, 0].numpy().astype(int)
    np.testing.assert_array_equal(after["observation"][:, 0], number + 1)
    np.testing.assert_array_equal(obs["desired_goal"], after["desired_goal"])
    goals, k, t = obs["desired_goal"].numpy(), number % 1000 // 10, number % 10
    changed = goals[:, 0] > 0
    np.testing.assert_array_equal(goals[~changed, 0], -k[~changed])
    rewards = samples.rewards[:, 0].numpy()
    wanted = Env.reward(after["achieved_goal"].numpy(), goals)
    np.testing.assert_array_equal(rewards, np.where(changed, wanted, 7))
    goal = goals[:, 0].astype(int)
    low = {"future": t + 1, "final": np.full(len(t), LENGTH), "episode": np.ones(len(t))}
    assert (goal // 10 == number // 10)[changed].all()
    assert ((goal % 10 >= low[strategy]) & (goal % 10 <= LENGTH))[changed].all()
    np.testing.assert_array_equal(samples.dones[:, 0], (t == LENGTH - 1) & (k % 2 == 1))
    return int(changed.sum())


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
def test_goals_are_of_the_strategy_and_their_share_exact(strategy: str) -> None:
    env = Env()
    buffer = made(env=env, goal_selection_strategy=strategy)
    fill(buffer)
    for _ in range(20):
        assert look(buffer.sample(100), strategy) == 80
    assert env.calls == [80] * 20
    assert buffer.her_ratio == pytest.approx(0.8)


def test_the_look_sees_an_unchanged_reward() -> None:
    buffer = made()
    fill(buffer)
    buffer._rewards = lambda *_: np.full(80, 7, np.float32)
    with pytest.raises(AssertionError):
        look(buffer.sample(100), "future")


def test_an_open_episode_is_cut_with_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    buffer = made(1)
    row = [{k: v[None] for k, v in observation(i, 0, -1).items()} for i in (0, 1)]
    buffer.add(*row, [[1]], [7.0], [False], [{}])
    buffer.truncate_last_trajectory()
    assert "will be truncated" in str(recwarn.pop(UserWarning).message)
    buffer.truncate_last_trajectory()
    assert not recwarn.list
    assert buffer.buffer.steps().truncated.tolist() == [True]


def test_a_pickle_has_no_environment() -> None:
    buffer = made()
    fill(buffer)
    again = pickle.loads(pickle.dumps(buffer))
    with pytest.raises(InvalidArgumentError, match=r"set_env\(env\)"):
        again.sample(10)
    again.set_env(Env())
    with pytest.raises(ValueError, match="already"):
        again.set_env(Env())
    again.truncate_last_trajectory()
    assert look(again.sample(100), "future") == 80


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"goal_selection_strategy": "past"}, "found 'past'"),
        ({"copy_info_dict": True}, "infos are not kept"),
        ({"n_sampled_goal": -1}, "n_sampled_goal"),
    ],
)
def test_wrong_settings_are_refused(settings: Any, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        made(**settings)


def test_a_space_without_goals_is_refused() -> None:
    for space in (spaces.Dict({"observation": SPACE["observation"]}), SPACE["observation"]):
        with pytest.raises(InvalidArgumentError, match=r"found no \['achieved_goal'"):
            sb3.HerReplayBuffer(10, space, ACTIONS, Env(), "cpu")


@pytest.mark.filterwarnings("ignore:The last trajectory:UserWarning")
def test_sb3_trains_on_it() -> None:
    stable = pytest.importorskip("stable_baselines3", reason="needs SB3: nox -s sb3")
    from stable_baselines3.common.envs import BitFlippingEnv
    from stable_baselines3.her.goal_selection_strategy import GoalSelectionStrategy

    assert issubclass(sb3.HerReplayBuffer, stable.HerReplayBuffer)
    env = BitFlippingEnv(n_bits=4, continuous=False, max_steps=4)
    model = stable.DQN(
        "MultiInputPolicy",
        env,
        replay_buffer_class=sb3.HerReplayBuffer,
        replay_buffer_kwargs={"goal_selection_strategy": GoalSelectionStrategy.FUTURE},
        learning_starts=100,
        seed=0,
        device="cpu",
    )
    model.learn(600)
    assert model.replay_buffer.size() == 600
    file = io.BytesIO()
    model.save_replay_buffer(file)
    file.seek(0)
    model.load_replay_buffer(file)
    assert model.replay_buffer.env is model.env
    model.learn(100, reset_num_timesteps=False)
    assert model.replay_buffer.size() == 700
