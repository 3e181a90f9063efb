"""A DQN agent in PyTorch that balances a pole: prioritized, three-step, eight environments.

    pip install '.[gymnasium,torch]'            # in a clone
    python examples/dqn_torch.py                # about a minute on one core
    python examples/dqn_torch.py --quick        # does everything work here?
    python examples/dqn_torch.py --picture curve.png    # needs matplotlib

Everything that a replay buffer has to do with it stands in `new_buffer` and `main`:
`for_env`, `add`, `sample`, `tensors`, `update_priorities`. The agent is a double DQN (van
Hasselt et al. 2016), whose targets need no special case at an episode's end: a batch's
`discount` is 0 where the environment terminated, and where it was only cut off,
`next_observation` is its final state.
Printed is the return of the greedy policy in 20 fresh episodes, beside that of a random one.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import reverie
from reverie.torch import TensorBatch, tensors

ENVIRONMENT = "CartPole-v1"
NUM_ENVS = 8
BATCH = 128
LEARNING_STARTS = 1_000
UPDATES_PER_CALL = 4  # a call steps all environments
EXPLORATION = (1.0, 0.05, 0.25)  # from, to, over this part of the steps
BETA = (0.4, 1.0)


def network(observations: int, actions: int) -> nn.Module:
    """The values of all actions."""
    return nn.Sequential(
        nn.Linear(observations, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
        nn.Linear(128, actions),
    )  # fmt: skip


class Agent:
    """A double DQN."""

    def __init__(self, observations: int, actions: int) -> None:
        self.online = network(observations, actions)
        self.target = copy.deepcopy(self.online)
        self.optimizer = torch.optim.Adam(self.online.parameters(), 5e-4)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.int64]:
        """The greedy actions."""
        with torch.no_grad():
            values: torch.Tensor = self.online(torch.from_numpy(observations))
        actions: NDArray[np.int64] = values.argmax(-1).numpy()
        return actions

    def learn(self, batch: TensorBatch) -> NDArray[np.float32]:
        """One step on a batch of tensors; its errors, by which its steps are drawn again."""
        with torch.no_grad():
            chosen = self.online(batch.next_observation).argmax(-1, keepdim=True)
            value = self.target(batch.next_observation).gather(1, chosen)[:, 0]
            wanted = batch.reward + batch.discount * value
        found = self.online(batch.observation).gather(1, batch.action[:, None])[:, 0]
        loss = nn.functional.smooth_l1_loss(found, wanted, reduction="none")
        self.optimizer.zero_grad()
        (batch.weight * loss).mean().backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(
                self.target.parameters(), self.online.parameters(), strict=True
            ):
                slow.lerp_(fast, 0.01)
        errors: NDArray[np.float32] = (wanted - found).detach().numpy()
        return errors


def judge(act: Callable[[Any], Any], episodes: int, seed: int) -> float:
    """The mean return in fresh episodes."""
    envs = gym.make_vec(ENVIRONMENT, num_envs=episodes)
    obs, _ = envs.reset(seed=seed)
    returns, alive = np.zeros(episodes), np.ones(episodes, bool)
    while alive.any():
        obs, reward, terminated, truncated, _ = envs.step(act(obs))
        returns += reward * alive
        alive &= ~(terminated | truncated)
    envs.close()
    return float(returns.mean())


def new_buffer(envs: Any, seed: int) -> reverie.ReplayBuffer:
    """What the agent learns from: steps, drawn by their errors, seen three at a time."""
    return reverie.ReplayBuffer.for_env(
        envs,
        capacity=100_000,
        sampler=reverie.samplers.Prioritized(alpha=0.6),
        view=reverie.views.Transitions(n_step=3, gamma=0.99),
        seed=seed,
    )


def main(
    steps: int = 60_000,
    seed: int = 0,
    picture: str | None = None,
    make: Callable[[Any, int], Any] = new_buffer,
) -> float:
    """Trains, prints and judges; returns the greedy policy's mean return."""
    torch.set_num_threads(1)  # for networks as small as these more would only wait
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    envs = gym.make_vec(ENVIRONMENT, num_envs=NUM_ENVS)
    buffer = make(envs, seed)
    agent = Agent(4, 2)
    first, last, part = EXPLORATION
    curve: list[tuple[int, float]] = []
    obs, _ = envs.reset(seed=seed)
    for step in range(0, steps, NUM_ENVS):
        explore = max(last, first + (last - first) * step / (part * steps))
        action = agent.act(obs)
        random = rng.random(NUM_ENVS) < explore
        action[random] = rng.integers(0, 2, random.sum())
        next_obs, reward, terminated, truncated, infos = envs.step(action)
        buffer.add(obs, action, reward, next_obs, terminated, truncated, infos)
        obs = next_obs
        if len(buffer) >= LEARNING_STARTS:
            for _ in range(UPDATES_PER_CALL):
                beta = BETA[0] + (BETA[1] - BETA[0]) * step / steps
                batch = tensors(buffer.sample(BATCH, beta=beta))
                buffer.update_priorities(batch.key, np.abs(agent.learn(batch)) + 1e-3)
        if step * 10 // steps != (step - NUM_ENVS) * 10 // steps:
            curve.append((step, judge(agent.act, 5, seed + 1)))
            print(f"{step:7d} steps   greedy return {curve[-1][1]:6.1f}   {buffer}", flush=True)
    envs.close()
    score = judge(agent.act, 20, seed + 2)
    chance = judge(lambda seen: rng.integers(0, 2, len(seen)), 20, seed + 2)
    print(
        f"return of the greedy policy in 20 episodes: {score:.1f}, "
        f"of a random one: {chance:.1f}"
    )
    if picture is not None:
        draw([*curve, (steps, score)], chance, picture)
    return score


def draw(curve: list[tuple[int, float]], chance: float, path: str) -> None:
    """The learning curve, and the baseline."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*curve, strict=True), marker="o", label="greedy policy")
    axes.axhline(chance, linestyle="--", label="random policy")
    axes.set(xlabel="steps of the environments", ylabel="return", title=ENVIRONMENT)
    axes.legend()
    figure.savefig(path)
    print("picture:", Path(path).resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    parser.add_argument("--picture", help="where to save the learning curve")
    given = parser.parse_args()
    main(given.steps // 10 if given.quick else given.steps, given.seed, given.picture)
