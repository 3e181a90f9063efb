"""Prioritized replay in SB3's words: its weights, and the algorithms that train on them."""

from __future__ import annotations

import copy
import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import reverie
from reverie.errors import InvalidArgumentError, MissingDependencyError

torch = pytest.importorskip("torch", reason="needs PyTorch")
gymnasium = pytest.importorskip("gymnasium", reason="needs gymnasium")
spaces = gymnasium.spaces
sb3 = importlib.import_module("reverie.sb3")

BOX = spaces.Box(-1, 1, (1,), np.float32)


def of_four(**settings: Any) -> Any:
    """Transitions whose states are 0 to 3, of priorities 1 to 4."""
    buffer = sb3.PrioritizedReplayBuffer(4, BOX, BOX, "cpu", eps=0, **settings)
    for t in range(4):
        buffer.add([[t]], [[t + 1]], [[0]], [1.0], [False], [{}])
    found = buffer.sample(200)
    keys = dict(zip(found.observations[:, 0].tolist(), found.keys, strict=True))
    errors = torch.tensor([[1.0], [-2.0], [3.0], [-4.0]], requires_grad=True)
    assert buffer.update_priorities([keys[t] for t in range(4)], errors) == 0
    return buffer


@pytest.mark.parametrize(
    ("alpha", "beta", "weights", "chances"),
    [
        (1.0, 1.0, [1, 0.5, 1 / 3, 0.25], [0.1, 0.2, 0.3, 0.4]),
        (
            0.6,
            0.4,
            [1, 0.846745, 0.768229, 0.716978],
            [0.148230, 0.224674, 0.286555, 0.340542],
        ),
    ],
)
def test_weights_and_choices_are_the_papers(
    alpha: float, beta: float, weights: list[float], chances: list[float]
) -> None:
    np.random.seed(0)  # of the buffer: below, 5 standard deviations
    found = of_four(alpha=alpha, beta=beta).sample(20_000)
    assert found.weights.shape == (20_000, 1)
    assert found.weights.dtype == torch.float32
    states = found.observations[:, 0].long()
    np.testing.assert_allclose(found.weights[:, 0], np.array(weights)[states], rtol=2e-6)
    np.testing.assert_allclose(np.bincount(states) / 20_000, chances, atol=0.0175)
    assert found.discounts is None


def test_new_transitions_have_the_largest_priority_and_stale_keys_are_counted() -> None:
    buffer = of_four(alpha=1.0)
    old = buffer.sample(100)
    buffer.add([[4]], [[5]], [[0]], [1.0], [True], [{}])
    assert sorted(buffer.buffer.item_info()["priority"]) == [2, 3, 4, 4]
    stale = int((old.observations[:, 0] == 0).sum())
    assert stale
    assert buffer.update_priorities(old.keys, np.ones(100)) == stale
    with pytest.raises(InvalidArgumentError):
        buffer.update_priorities(old.keys, np.full(100, np.nan))


def test_beta_is_a_schedule_over_the_transitions_that_were_added() -> None:
    asked = []

    def beta(added: int) -> float:
        asked.append(added)
        return 0.5

    buffer = of_four(beta=beta)
    buffer.add([[4]], [[5]], [[0]], [1.0], [True], [{}])
    buffer.sample(1)
    assert asked == [4, 5]
    schedule = reverie.weights.LinearSchedule(0.0, 1.0, 4)
    again = copy.deepcopy(of_four(alpha=1.0, beta=schedule))
    found = again.sample(100)
    np.testing.assert_allclose(found.weights, 1 / (found.observations + 1), rtol=1e-6)


def test_n_steps_want_a_gamma_and_give_discounts() -> None:
    with pytest.raises(InvalidArgumentError, match="gamma: found None with n_steps=3"):
        sb3.PrioritizedReplayBuffer(4, BOX, BOX, n_steps=3)
    found = of_four(n_steps=3, gamma=0.5).sample(100)
    left = 4 - found.observations
    assert torch.equal(found.discounts, 0.5 ** left.clamp(max=3))
    assert torch.equal(found.rewards, 2 - 2 * 0.5 ** left.clamp(max=3))


def test_without_sb3_the_algorithms_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(importlib.import_module("sys").modules, "stable_baselines3", None)
    with pytest.raises(MissingDependencyError, match=r"sb3\.PrioritizedDQN needs.*\[sb3\]"):
        _ = sb3.PrioritizedDQN
    with pytest.raises(AttributeError, match="no attribute 'PrioritizedA2C'"):
        _ = sb3.PrioritizedA2C


class Env(gymnasium.Env):  # type: ignore[misc]
    """Noise, which ends now and then."""

    def __init__(self, action: Any, observation: Any = None) -> None:
        self.action_space = action
        self.observation_space = observation or spaces.Box(-3, 3, (4,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action: Any) -> Any:
        ends = self.np_random.random(2) < 0.1
        return self._look(), float(self.np_random.normal()), *map(bool, ends), {}

    def _look(self) -> Any:
        noise = self.np_random.normal(size=4).astype(np.float32)
        return {"a": noise} if isinstance(self.observation_space, spaces.Dict) else noise


DISCRETE, REAL = spaces.Discrete(3), spaces.Box(-2, 2, (2,), np.float32)
ALGORITHMS = [
    ("DQN", DISCRETE, {"max_grad_norm": 0.5}),
    ("SAC", REAL, {}),
    ("SAC", REAL, {"ent_coef": 0.2, "use_sde": True, "target_update_interval": 2}),
    ("TD3", REAL, {"policy_delay": 2}),
]


class OneBatch:
    """In the place of a buffer: always the same, with weights; keeps new priorities."""

    def __init__(self, batch: Any, weights: Any, keys: Any = ()) -> None:
        self._found = {**batch._asdict(), "weights": weights, "keys": keys}
        self.errors: list[Any] = []

    def sample(self, batch_size: int, env: Any = None) -> Any:
        return SimpleNamespace(**self._found)

    def update_priorities(self, keys: Any, errors: Any) -> int:
        self.errors.append(errors.detach().clone())
        return 0


def trained(model: Any, buffer: Any, steps: int = 4) -> list[Any]:
    """All parameters after some first updates, of policy and temperature."""
    model._n_updates = 0  # by which TD3 knows when to learn its actor
    model.replay_buffer = buffer
    torch.manual_seed(3)
    model.train(steps, 16)
    found = [each.detach().clone() for each in model.policy.parameters()]
    if getattr(model, "log_ent_coef", None) is not None:
        found.append(model.log_ent_coef.detach().clone())
    return found


def pair(name: str, action: Any, settings: Any) -> tuple[Any, Any, Any]:
    """SB3's algorithm and ours, of equal parameters; and a batch."""
    algorithms = pytest.importorskip(
        "stable_baselines3", reason="needs Stable-Baselines3: nox -s sb3"
    )
    made = []
    for kind in (getattr(algorithms, name), getattr(sb3, f"Prioritized{name}")):
        torch.manual_seed(0)
        common = {"policy_kwargs": {"net_arch": [16]}, "buffer_size": 200, "device": "cpu"}
        model = kind("MlpPolicy", Env(action), seed=1, learning_starts=60, **common, **settings)
        model.learn(60)  # fills the buffer
        made.append(model)
    return *made, made[0].replay_buffer.sample(16)


@pytest.mark.parametrize(("name", "action", "settings"), ALGORITHMS)
def test_of_weights_that_are_one_an_update_is_sb3s_own(
    name: str, action: Any, settings: Any
) -> None:
    theirs, ours, batch = pair(name, action, settings)
    before = [each.detach().clone() for each in ours.policy.parameters()]
    wanted = trained(theirs, OneBatch(batch, None))
    found = trained(ours, OneBatch(batch, torch.ones(16, 1)))
    assert any(not torch.equal(*each) for each in zip(before, found, strict=False))
    for mine, own in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, own, rtol=1e-4, atol=1e-5)
    assert ours._n_updates == theirs._n_updates == 4


@pytest.mark.parametrize(("name", "action", "settings"), ALGORITHMS)
def test_a_transition_of_no_weight_moves_no_critic_and_errors_become_priorities(
    name: str, action: Any, settings: Any
) -> None:
    _, ours, batch = pair(name, action, settings)
    network = ours.q_net if name == "DQN" else ours.critic
    before = copy.deepcopy(network.state_dict())
    half, none = torch.zeros(16, 1), torch.zeros(16, 1)
    half[:8] = 1
    buffer = OneBatch(batch, none)
    trained(ours, buffer, 1)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    (errors,) = buffer.errors
    assert errors.shape == (16, 1)
    if name == "DQN":
        with torch.no_grad():
            value = ours.q_net(batch.observations).gather(1, batch.actions)
            best = ours.q_net_target(batch.next_observations).max(dim=1, keepdim=True)[0]
        target = batch.rewards + 0.99 * (1 - batch.dones) * best
        torch.testing.assert_close(errors, value - target)
    # The others' rewards are as good as unseen.
    lies = batch._replace(rewards=batch.rewards + 100 * (1 - half))
    start = copy.deepcopy(ours.get_parameters())
    temperature = copy.deepcopy(getattr(ours, "log_ent_coef", None))
    found = []
    for each, weights in ((batch, half), (lies, half), (lies, torch.ones(16, 1))):
        ours.set_parameters(copy.deepcopy(start))
        if temperature is not None:
            ours.log_ent_coef.data.copy_(temperature)
        found.append(trained(ours, OneBatch(each, weights), 1))
    one, other, planted = found
    assert all(torch.equal(*each) for each in zip(one, other, strict=True))
    assert not all(torch.equal(*each) for each in zip(one, planted, strict=True))


@pytest.mark.parametrize("dicts", [False, True])
@pytest.mark.parametrize(("name", "action", "settings"), ALGORITHMS)
def test_they_learn_on_their_own_buffer(
    name: str, action: Any, settings: Any, dicts: bool
) -> None:
    pytest.importorskip("stable_baselines3", reason="needs Stable-Baselines3: nox -s sb3")
    box = spaces.Box(-3, 3, (4,), np.float32)
    model = getattr(sb3, f"Prioritized{name}")(
        "MultiInputPolicy" if dicts else "MlpPolicy",
        Env(action, spaces.Dict({"a": box}) if dicts else box),
        replay_buffer_kwargs={"n_steps": 3, "gamma": 0.9, "alpha": 0.5},
        policy_kwargs={"net_arch": [8]},
        buffer_size=80,
        learning_starts=20,
        batch_size=16,
        device="cpu",
        seed=0,
        **settings,
    ).learn(100)
    buffer = model.replay_buffer
    assert type(buffer) is sb3.PrioritizedReplayBuffer
    assert (buffer.size(), buffer.n_steps, buffer.alpha) == (80, 3, 0.5)
    assert len(set(buffer.buffer.item_info()["priority"])) > 20
    assert model.logger.name_to_value["train/n_updates"] == model._n_updates > 0


def test_a_buffer_without_weights_is_refused() -> None:
    pytest.importorskip("stable_baselines3", reason="needs Stable-Baselines3: nox -s sb3")
    with pytest.raises(InvalidArgumentError, match="PrioritizedDQN trains on weights"):
        sb3.PrioritizedDQN(
            "MlpPolicy", Env(DISCRETE), replay_buffer_class=sb3.ReplayBuffer, device="cpu"
        )


def test_rewards_are_normalized_each_before_they_are_summed() -> None:
    class Normalize:
        def normalize_obs(self, obs: Any) -> Any:
            return obs * 2

        def normalize_reward(self, reward: Any) -> Any:
            return np.minimum(reward, 0.5)

    found = of_four(n_steps=3, gamma=0.5, alpha=1.0, beta=1.0).sample(100, Normalize())
    left = 4 - found.observations / 2
    assert torch.equal(found.rewards, 1 - 0.5 ** left.clamp(max=3))
    assert torch.equal(found.discounts, 0.5 ** left.clamp(max=3))
    assert torch.equal(found.next_observations / 2, 4 - (left - 3).clamp(min=0))
    np.testing.assert_allclose(found.weights, 1 / (5 - left), rtol=1e-6)
