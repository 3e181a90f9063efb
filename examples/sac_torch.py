"""Soft actor-critic in PyTorch: a pendulum that is swung up, four environments at once.

    pip install '.[gymnasium,torch]'            # in a clone
    python examples/sac_torch.py                # about half a minute on one core
    python examples/sac_torch.py --quick        # does everything work here?
    python examples/sac_torch.py --picture curve.png    # needs matplotlib

The agent is that of Haarnoja et al. 2018 (arXiv:1812.05905): two critics, of which the lesser
is believed, and a temperature that is learnt, so that actions stay as random as is wanted.
Pendulum never terminates, it is only cut off after 200 steps. A batch's `discount` is then not
0, and `next_observation` is the state at the cut, so the target needs no special case.
Printed is the return of the policy's middle actions in 20 fresh episodes, beside that of a
random policy: about -140 and -1,200.
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

ENVIRONMENT = "Pendulum-v1"
NUM_ENVS = 4
BATCH = 256
LEARNING_STARTS = 1_000
UPDATES_PER_CALL = 2  # a call steps all environments
RATE = 2e-3
GAMMA = 0.98

Actions = NDArray[np.float32]


def network(inputs: int, outputs: int) -> nn.Module:
    """Two layers between."""
    return nn.Sequential(
        nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
        nn.Linear(128, outputs),
    )  # fmt: skip


class Agent:
    """Soft actor-critic for actions from `-limit` to `limit`."""

    def __init__(self, observations: int, actions: int, limit: float) -> None:
        self.limit = limit
        self.actor = network(observations, 2 * actions)
        self.critics = nn.ModuleList(network(observations + actions, 1) for _ in range(2))
        self.targets = copy.deepcopy(self.critics)
        self.log_temperature = torch.zeros((), requires_grad=True)
        self.wanted_entropy = -float(actions)
        self.optimizers = [
            torch.optim.Adam(part, RATE)
            for part in (
                self.actor.parameters(), self.critics.parameters(), [self.log_temperature]
            )
        ]  # fmt: skip

    def draw(self, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions within (-1, 1), and the logarithms of their densities, `[B]`."""
        mean, log_std = self.actor(observations).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
        raw = normal.rsample()
        # log(1 - tanh(x) ** 2), without the cancellation.
        bent = 2 * (np.log(2) - raw - nn.functional.softplus(-2 * raw))
        return raw.tanh(), (normal.log_prob(raw) - bent).sum(-1)

    def act(self, observations: NDArray[np.float32], *, random: bool = False) -> Actions:
        """The middle actions, or random ones."""
        with torch.no_grad():
            seen = torch.from_numpy(observations)
            bent = self.draw(seen)[0] if random else self.actor(seen).chunk(2, -1)[0].tanh()
        actions: Actions = (self.limit * bent).numpy()
        return actions

    def values(self, critics: nn.ModuleList, observations: Any, actions: Any) -> torch.Tensor:
        """What each critic says, `[2, B]`; actions within (-1, 1)."""
        both = torch.cat([observations, actions], -1)
        return torch.stack([critic(both)[:, 0] for critic in critics])

    def learn(self, batch: TensorBatch) -> None:
        """One step of each network on a batch of tensors."""
        temperature = self.log_temperature.detach().exp()
        with torch.no_grad():
            action, density = self.draw(batch.next_observation)
            least = self.values(self.targets, batch.next_observation, action).amin(0)
            wanted = batch.reward + batch.discount * (least - temperature * density)
        found = self.values(self.critics, batch.observation, batch.action / self.limit)
        critics = ((found - wanted) ** 2).mean(-1).sum()
        action, density = self.draw(batch.observation)
        value = self.values(self.critics, batch.observation, action).amin(0)
        actor = (temperature * density - value).mean()
        surplus = (density + self.wanted_entropy).detach().mean()
        losses = (actor, critics, -self.log_temperature * surplus)
        for optimizer, loss in zip(self.optimizers, losses, strict=True):
            optimizer.zero_grad()
            # The actor's loss reaches into the critics: their gradients are for it alone.
            parts = [part for group in optimizer.param_groups for part in group["params"]]
            gradients = torch.autograd.grad(loss, parts)
            for part, gradient in zip(parts, gradients, strict=True):
                part.grad = gradient
        for optimizer in self.optimizers:
            optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(
                self.targets.parameters(), self.critics.parameters(), strict=True
            ):
                slow.lerp_(fast, 0.01)


def judge(act: Callable[[Any], Any], episodes: int, seed: int) -> float:
    """The mean return in fresh episodes, all of which are equally long."""
    envs = gym.make_vec(ENVIRONMENT, num_envs=episodes, vectorization_mode="sync")
    obs, _ = envs.reset(seed=seed)
    returns, over = np.zeros(episodes), False
    while not over:
        obs, reward, _, truncated, _ = envs.step(act(obs))
        returns += reward
        over = bool(truncated.all())
    envs.close()
    return float(returns.mean())


def main(steps: int = 12_000, seed: int = 0, picture: str | None = None) -> tuple[float, float]:
    """Trains, prints and judges; the returns of the policy and of chance."""
    torch.set_num_threads(1)  # for networks as small as these more would only wait
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    envs = gym.make_vec(ENVIRONMENT, num_envs=NUM_ENVS, vectorization_mode="sync")
    agent = Agent(3, 1, limit := 2.0)

    def chance(seen: NDArray[np.float32]) -> Actions:
        return rng.uniform(-limit, limit, (len(seen), 1)).astype(np.float32)

    view = reverie.views.Transitions(gamma=GAMMA)
    buffer = reverie.ReplayBuffer.for_env(envs, capacity=100_000, view=view, seed=seed)
    curve: list[tuple[int, float]] = []
    obs, _ = envs.reset(seed=seed)
    for step in range(0, steps, NUM_ENVS):
        ready = len(buffer) >= LEARNING_STARTS
        action = agent.act(obs, random=True) if ready else chance(obs)
        next_obs, reward, terminated, truncated, infos = envs.step(action)
        buffer.add(obs, action, reward, next_obs, terminated, truncated, infos)
        obs = next_obs
        if ready:
            for _ in range(UPDATES_PER_CALL):
                agent.learn(tensors(buffer.sample(BATCH)))
        if (step + NUM_ENVS) * 10 // steps != step * 10 // steps:
            curve.append((step + NUM_ENVS, judge(agent.act, 5, seed + 1)))
            print(
                f"{curve[-1][0]:7d} steps   return {curve[-1][1]:8.1f}   {buffer}", flush=True
            )
    envs.close()
    score, random = judge(agent.act, 20, seed + 2), judge(chance, 20, seed + 2)
    print(f"return of the policy in 20 episodes: {score:.1f}, of a random one: {random:.1f}")
    if picture is not None:
        draw([*curve, (steps, score)], random, picture)
    return score, random


def draw(curve: list[tuple[int, float]], chance: float, path: str) -> None:
    """The learning curve, and the baseline."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*curve, strict=True), marker="o", label="the policy")
    axes.axhline(chance, linestyle="--", label="random policy")
    axes.set(xlabel="steps of the environments", ylabel="return", title=ENVIRONMENT)
    axes.legend()
    figure.savefig(path)
    print("picture:", Path(path).resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a third of the steps")
    parser.add_argument("--picture", help="where to save the learning curve")
    given = parser.parse_args()
    main(given.steps // 3 if given.quick else given.steps, given.seed, given.picture)
