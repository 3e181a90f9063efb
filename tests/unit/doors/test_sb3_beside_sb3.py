"""Our buffers beside SB3's own: the same calls, and row for row the same samples."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch")
spaces = pytest.importorskip("gymnasium", reason="needs gymnasium").spaces
buffers = pytest.importorskip(
    "stable_baselines3.common.buffers", reason="needs Stable-Baselines3: nox -s sb3"
)
sb3 = importlib.import_module("reverie.sb3")

BOX = spaces.Box(-9, 9, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (2, 4, 4), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "place": spaces.Discrete(7), "arm": BOX})
OBSERVATIONS = {
    "box": BOX,
    "float64": spaces.Box(-9, 9, (2, 2), np.float64),
    "image": IMAGE,
    "discrete": spaces.Discrete(50),
    "multi-discrete": spaces.MultiDiscrete([5, 6]),
    "multi-binary": spaces.MultiBinary(9),
    "dict": DICT,
}
ACTIONS = {
    "discrete": spaces.Discrete(5),
    "multi-discrete": spaces.MultiDiscrete([5, 6]),
    "multi-binary": spaces.MultiBinary(4),
    **{name: spaces.Box(-1, 1, (2, 3), name) for name in ("float16", "float32", "float64")},
    **{
        name: spaces.Box(0, 100, (2,), name)
        for name in ("uint8", "int8", "int16", "int32", "int64")
    },
}


def stacked(values: list[Any]) -> Any:
    """As SB3's vector environments return observations."""
    if isinstance(values[0], dict):
        return {key: np.stack([each[key] for each in values]) for key in values[0]}
    return np.stack(values)


def stream(observation: Any, action: Any, n_envs: int, count: int) -> Iterator[tuple[Any, ...]]:
    """What SB3's `collect_rollouts` adds: episodes that end at any time, each in its way."""
    observation.seed(3)
    action.seed(4)
    random = np.random.default_rng(5)
    obs = [observation.sample() for _ in range(n_envs)]
    for _ in range(count):
        after = [observation.sample() for _ in range(n_envs)]
        done = random.random(n_envs) < 0.2
        infos = [
            {"TimeLimit.truncated": bool(random.random() < 0.5)} if each else {}
            for each in done
        ]
        chosen = np.stack([action.sample() for _ in range(n_envs)])
        reward = random.normal(size=n_envs)
        yield stacked(obs), stacked(after), chosen, reward, done, infos
        obs = [
            observation.sample() if over else each
            for each, over in zip(after, done, strict=True)
        ]


def pair(ours: Any, theirs: Any, *args: Any, count: int = 73, **settings: Any) -> list[Any]:
    """A buffer of each class, with the same in them; `stream`'s spaces come first."""
    n_envs = settings.get("n_envs", 1)
    found = [kind(30 * n_envs, *args, device="cpu", **settings) for kind in (ours, theirs)]
    for step in stream(*args, n_envs, count):
        for buffer in found:
            buffer.add(*step)
    return found


def assert_same(ours: Any, theirs: Any, env: Any = None) -> None:
    """Row for row, of each place and environment; and `sample` gives just these."""
    assert (ours.size(), ours.pos, ours.full) == (theirs.size(), theirs.pos, theirs.full)
    slots = np.repeat(np.arange(theirs.size()), 8 * theirs.n_envs)
    found = []
    for buffer in (ours, theirs):
        np.random.seed(8)  # the environments
        found.append(buffer._get_samples(slots, env))
    mine, wanted = found
    assert type(mine) is type(wanted)
    for name in wanted._fields:
        assert_equal(name, getattr(mine, name), getattr(wanted, name))
    drawn = ours.sample(30 * slots.size // 8, env)
    assert rows_of(drawn) == rows_of(wanted)


def assert_equal(name: str, mine: Any, wanted: Any) -> None:
    if wanted is None:
        assert mine is None
    elif isinstance(wanted, dict):
        assert mine.keys() == wanted.keys()
        for key in wanted:
            assert_equal(f"{name}/{key}", mine[key], wanted[key])
    else:
        assert (mine.dtype, mine.shape) == (wanted.dtype, wanted.shape), name
        # Sums of n rewards are rounded elsewhere.
        np.testing.assert_allclose(
            mine.numpy(), wanted.numpy(), rtol=2e-6, atol=1e-6, err_msg=name
        )


def rows_of(samples: Any) -> set[bytes]:
    """Each transition, without what is rounded."""
    leaves = [samples.actions, samples.dones]
    for states in (samples.observations, samples.next_observations):
        leaves += list(states.values()) if isinstance(states, dict) else [states]
    rows = [leaf.numpy().reshape(len(leaf), -1) for leaf in leaves]
    return {b"".join(row.tobytes() for row in each) for each in zip(*rows, strict=True)}


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("count", [6, 30, 73])
@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_samples_are_sb3s(observation: str, count: int, n_envs: int) -> None:
    dicts = observation == "dict"
    assert_same(
        *pair(
            sb3.DictReplayBuffer if dicts else sb3.ReplayBuffer,
            buffers.DictReplayBuffer if dicts else buffers.ReplayBuffer,
            OBSERVATIONS[observation],
            ACTIONS["float32"],
            n_envs=n_envs,
            count=count,
        )
    )


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("handle", [True, False])
def test_actions_of_every_kind_are_sb3s(action: str, handle: bool) -> None:
    kinds = sb3.ReplayBuffer, buffers.ReplayBuffer
    assert_same(
        *pair(*kinds, BOX, ACTIONS[action], n_envs=2, handle_timeout_termination=handle)
    )


DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


@pytest.mark.parametrize("dtype", [*DTYPES, "float16", "float32", "float64"])
@pytest.mark.parametrize("dicts", [False, True])
def test_observations_of_every_dtype_keep_it(dtype: str, dicts: bool) -> None:
    """Those of SB3's own `test_buffer_dtypes`, which samples what nobody added."""
    space = spaces.Box(0, 100, (1,), dtype)
    kinds = sb3.ReplayBuffer, buffers.ReplayBuffer
    if dicts:
        space = spaces.Dict({"obs": space, "obs_2": spaces.Box(0, 100, dtype=np.uint8)})
        kinds = sb3.DictReplayBuffer, buffers.DictReplayBuffer
    ours, theirs = pair(*kinds, space, spaces.Discrete(10))
    assert_same(ours, theirs)
    for name in ("observations", "next_observations"):
        mine, wanted = getattr(ours, name), getattr(theirs, name)
        for key in wanted if dicts else [...]:
            assert mine[key].dtype == wanted[key].dtype
            assert np.array_equal(mine[key], wanted[key])


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("n_steps", [1, 3, 5])
@pytest.mark.parametrize("count", [2, 16, 73])
def test_n_step_samples_are_sb3s(n_steps: int, n_envs: int, count: int) -> None:
    kinds = sb3.NStepReplayBuffer, buffers.NStepReplayBuffer
    settings = {"n_envs": n_envs, "n_steps": n_steps, "gamma": 0.9}
    assert_same(*pair(*kinds, BOX, ACTIONS["discrete"], count=count, **settings))


def test_arrays_are_sb3s_and_read_only() -> None:
    ours, theirs = pair(sb3.ReplayBuffer, buffers.ReplayBuffer, BOX, BOX, n_envs=2)
    for name in ("observations", "next_observations", "actions", "rewards", "dones"):
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    assert np.array_equal(ours.timeouts, theirs.timeouts)
    with pytest.raises(ValueError, match="read-only"):
        ours.rewards[0] = 1
    ours.dones[ours.pos - 1] = True  # as SB3 does, before it resets the environment
    assert_same(ours, theirs)


def normalizer(observation: Any) -> Any:
    """SB3's VecNormalize, which clips rewards and has seen something."""
    gymnasium = importlib.import_module("gymnasium")
    vec_env = importlib.import_module("stable_baselines3.common.vec_env")

    class Nothing(gymnasium.Env):  # type: ignore[misc, name-defined]
        observation_space, action_space = observation, BOX

    keys = (
        [key for key, part in observation.items() if part.shape == BOX.shape]
        if isinstance(observation, spaces.Dict)
        else None
    )
    env = vec_env.VecNormalize(
        vec_env.DummyVecEnv([Nothing]), clip_reward=0.7, norm_obs_keys=keys
    )
    random = np.random.default_rng(2)
    for each in env.obs_rms.values() if keys else [env.obs_rms]:
        each.update(random.normal(1, 3, (50, *each.mean.shape)))
    env.ret_rms.update(random.normal(0, 2, 50))
    return env


NORMALIZED = [
    ("ReplayBuffer", BOX, {}),
    ("DictReplayBuffer", DICT, {}),
    ("NStepReplayBuffer", BOX, {"n_steps": 3, "gamma": 0.9}),
]


@pytest.mark.parametrize(("kind", "observation", "settings"), NORMALIZED)
def test_what_is_normalized_is_sb3s(kind: str, observation: Any, settings: Any) -> None:
    kinds = getattr(sb3, kind), getattr(buffers, kind)
    ours, theirs = pair(*kinds, observation, ACTIONS["discrete"], n_envs=2, **settings)
    env = normalizer(observation)
    assert_same(ours, theirs, env)
    with pytest.raises(AssertionError):  # it does something
        assert_same(_Unnormalized(ours), theirs, env)


class _Unnormalized:
    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._buffer, name)

    def _get_samples(self, slots: Any, env: Any) -> Any:
        return self._buffer._get_samples(slots)


class _NoTimeouts(sb3.ReplayBuffer):  # type: ignore[name-defined, misc]
    def _timeouts(self, infos: Any) -> Any:
        return np.zeros(self.n_envs, np.bool_)


class _Later(sb3.ReplayBuffer):  # type: ignore[name-defined, misc]
    def slot_keys(self, slots: Any, env_ids: Any) -> Any:
        return super().slot_keys(slots + 1, env_ids)


class _WrongEnvironment(sb3.ReplayBuffer):  # type: ignore[name-defined, misc]
    def slot_keys(self, slots: Any, env_ids: Any) -> Any:
        return super().slot_keys(slots, (env_ids + 1) % self.n_envs)


class _Stays(sb3.ReplayBuffer):  # type: ignore[name-defined, misc]
    def add(self, obs: Any, next_obs: Any, *args: Any) -> None:
        super().add(obs, obs, *args)


class _NoEnds(sb3.ReplayBuffer):  # type: ignore[name-defined, misc]
    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, *_: Any) -> None:
        quiet = [{}] * self.n_envs
        super().add(obs, next_obs, action, reward, np.zeros(self.n_envs), quiet)


class _Forgets(sb3.ReplayBuffer):  # type: ignore[name-defined, misc]
    def add(self, *args: Any) -> None:
        if self._added == 60:
            self._added += 1
            return
        super().add(*args)


@pytest.mark.parametrize(
    "planted", [_NoTimeouts, _Later, _WrongEnvironment, _Stays, _NoEnds, _Forgets]
)
def test_a_planted_fault_is_seen(planted: Any) -> None:
    with pytest.raises((AssertionError, ValueError)):
        assert_same(*pair(planted, buffers.ReplayBuffer, BOX, BOX, n_envs=3))


class _Longer(sb3.NStepReplayBuffer):  # type: ignore[name-defined, misc]
    def __init__(self, *args: Any, n_steps: int, **kwargs: Any) -> None:
        super().__init__(*args, n_steps=n_steps + 1, **kwargs)


class _EndsUnseen(sb3.NStepReplayBuffer):  # type: ignore[name-defined, misc]
    _timeouts = _NoTimeouts._timeouts


class _OtherGamma(sb3.NStepReplayBuffer):  # type: ignore[name-defined, misc]
    def __init__(self, *args: Any, gamma: float, **kwargs: Any) -> None:
        super().__init__(*args, gamma=gamma**2, **kwargs)


@pytest.mark.parametrize("planted", [_OtherGamma, _Longer, _EndsUnseen])
def test_a_planted_fault_of_n_steps_is_seen(planted: Any) -> None:
    settings = {"n_steps": 3, "gamma": 0.9}
    with pytest.raises(AssertionError):
        assert_same(*pair(planted, buffers.NStepReplayBuffer, BOX, BOX, **settings))


def test_rewards_normalized_after_the_sum_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"n_steps": 3, "gamma": 0.9}
    kinds = sb3.NStepReplayBuffer, buffers.NStepReplayBuffer
    ours, theirs = pair(*kinds, BOX, BOX, **settings)
    monkeypatch.setattr(ours, "_view", lambda env: None)
    with pytest.raises(AssertionError):
        assert_same(ours, theirs, normalizer(BOX))


def test_isinstance_of_sb3s_and_no_array_of_its_is_there() -> None:
    for kind in ("ReplayBuffer", "DictReplayBuffer", "NStepReplayBuffer"):
        space = DICT if kind.startswith("Dict") else BOX
        buffer = getattr(sb3, kind)(10, space, BOX)
        assert isinstance(buffer, getattr(buffers, kind))
        assert isinstance(buffer, sb3.ReplayBuffer)
        assert not any(isinstance(each, np.ndarray) for each in vars(buffer).values())
    assert issubclass(sb3.PrioritizedReplayBuffer, buffers.ReplayBuffer)


@pytest.mark.parametrize("dicts", [False, True])
def test_n_steps_end_where_an_episode_is_cut_off_unsaid_and_take_dicts(dicts: bool) -> None:
    """SB3's own crosses such a seam, and takes no dicts."""
    space = spaces.Dict({"a": BOX}) if dicts else BOX

    def state(value: float) -> Any:
        row = np.full((1, 3), value, np.float32)
        return {"a": row} if dicts else row

    buffer = sb3.NStepReplayBuffer(10, space, BOX, "cpu", n_steps=3, gamma=0.5)
    for t in (0, 1, 5, 6, 7):  # after 1 came 2, and then another episode
        buffer.add(state(t), state(t + 1), np.zeros((1, 3)), [t + 1.0], [False], [{}])
    found = buffer._get_samples(np.arange(5))
    after = found.next_observations["a"] if dicts else found.next_observations
    assert after[:, 0].tolist() == [2, 2, 8, 8, 8]
    assert found.rewards.flatten().tolist() == [1 + 1, 2, 6 + 3.5 + 2, 7 + 4, 8]
    assert found.discounts.flatten().tolist() == [0.25, 0.5, 0.125, 0.25, 0.5]
    assert type(found) is (sb3.DictReplayBufferSamples if dicts else sb3.ReplayBufferSamples)


class _SameChoices(sb3.ReplayBuffer):  # type: ignore[name-defined, misc]
    """Draws SB3's places from NumPy's generator, as SB3 does, and nothing more."""

    lie = 0.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        before = np.random.get_state()
        super().__init__(*args, **kwargs)
        np.random.set_state(before)

    def sample(self, batch_size: int, env: Any = None) -> Any:
        found = self._get_samples(np.random.randint(0, self.size(), size=batch_size), env)
        return found._replace(rewards=found.rewards + self.lie)


class _Lying(_SameChoices):
    lie = 1e-3


def test_with_the_same_choices_a_training_is_sb3s_bit_for_bit() -> None:
    stable_baselines3 = importlib.import_module("stable_baselines3")

    def trained(kind: Any) -> list[Any]:
        model = stable_baselines3.DQN(
            "MlpPolicy",
            "CartPole-v1",
            replay_buffer_class=kind,
            buffer_size=200,
            learning_starts=50,
            policy_kwargs={"net_arch": [16]},
            device="cpu",
            seed=3,
        ).learn(500)
        return [each.detach().numpy() for each in model.policy.parameters()]

    theirs, ours, planted = map(trained, (None, _SameChoices, _Lying))
    assert all(map(np.array_equal, theirs, ours))
    assert not all(map(np.array_equal, theirs, planted))
