"""Hindsight in PyTorch: flip bits until they are as wanted, told only whether they are.

    pip install '.[torch]'                           # in a clone
    python examples/hindsight_torch.py               # about a minute on two cores
    python examples/hindsight_torch.py --quick       # fewer bits
    python examples/hindsight_torch.py --picture curve.png    # needs matplotlib

The environment is that of Andrychowicz et al. 2017: `bits` bits, as many steps, and a reward of
-1 for each until all are as in the goal. Of 2 ** bits states chance hardly ever meets the right
one, so a DQN learns nothing from what happened, and all from what it shows with
`reverie.views.Hindsight`: how to get where one did get. The buffer is the same; only the view
differs. Printed is how often fresh goals are reached, with hindsight and without.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import reverie
from reverie.torch import TensorBatch, tensors

NUM_ENVS = 16
BATCH = 256
UPDATES_PER_CALL = 2  # a call steps all environments
EXPLORATION = 0.15
GAMMA = 0.98

Observation = dict[str, NDArray[np.float32]]


def compute_reward(achieved: Any, desired: Any, info: Any = None) -> NDArray[np.float32]:
    """0 where the goal is reached, -1 elsewhere, as gymnasium's GoalEnv has it."""
    reached: NDArray[np.bool_] = (np.asarray(achieved) == np.asarray(desired)).all(-1)
    return reached.astype(np.float32) - 1


class Flips:
    """Many rows of bits; each begins anew when `reset` is told to."""

    def __init__(self, count: int, bits: int, seed: int) -> None:
        self.count, self.bits, self.rng = count, bits, np.random.default_rng(seed)
        self.state = np.zeros((count, bits), np.float32)
        self.goal, self.time = self.state.copy(), np.zeros(count, np.int64)
        self.reset(np.ones(count, bool))

    def reset(self, which: NDArray[np.bool_]) -> Observation:
        """New states and goals for these; what all see."""
        fresh = self.rng.integers(0, 2, (2, int(which.sum()), self.bits)).astype(np.float32)
        self.state[which], self.goal[which] = fresh
        self.time[which] = 0
        return self.seen()

    def seen(self) -> Observation:
        """The state, also as the goal that was achieved, and the goal that is wanted."""
        state = self.state.copy()
        return {
            "observation": state,
            "achieved_goal": state,
            "desired_goal": self.goal.copy(),
        }

    def step(self, action: NDArray[np.int64]) -> tuple[Any, ...]:
        """Flips a bit of each."""
        rows = np.arange(self.count)
        self.state[rows, action] = 1 - self.state[rows, action]
        self.time += 1
        reward = compute_reward(self.state, self.goal)
        terminated = reward == 0
        return self.seen(), reward, terminated, (self.time >= self.bits) & ~terminated


class Agent:
    """A double DQN that sees the state and the goal."""

    def __init__(self, bits: int) -> None:
        self.online = nn.Sequential(nn.Linear(2 * bits, 256), nn.ReLU(), nn.Linear(256, bits))
        self.target = copy.deepcopy(self.online)
        self.optimizer = torch.optim.Adam(self.online.parameters(), 1e-3)

    def act(self, seen: Observation) -> NDArray[np.int64]:
        """The greedy actions."""
        both = np.concatenate([seen["observation"], seen["desired_goal"]], axis=-1)
        with torch.no_grad():
            values: torch.Tensor = self.online(torch.from_numpy(both))
        actions: NDArray[np.int64] = values.argmax(-1).numpy()
        return actions

    def learn(self, batch: TensorBatch) -> None:
        """One step on a batch of tensors."""
        now, later = (
            torch.cat([part["observation"], part["desired_goal"]], -1)
            for part in (batch.observation, batch.next_observation)
        )
        with torch.no_grad():
            chosen = self.online(later).argmax(-1, keepdim=True)
            value = self.target(later).gather(1, chosen)[:, 0]
            # A goal that was reached ends the episode, in hindsight, too.
            goes_on = batch.discount * (batch.reward < 0)
            wanted = (batch.reward + GAMMA * goes_on * value).clamp(-1 / (1 - GAMMA), 0)
        found = self.online(now).gather(1, batch.action[:, None])[:, 0]
        self.optimizer.zero_grad()
        nn.functional.smooth_l1_loss(found, wanted).backward()
        self.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(
                self.target.parameters(), self.online.parameters(), strict=True
            ):
                slow.lerp_(fast, 0.02)


def judge(agent: Agent, bits: int, seed: int, episodes: int = 200) -> float:
    """The share of fresh goals that the greedy policy reaches."""
    envs = Flips(episodes, bits, seed)
    seen, reached = envs.seen(), np.zeros(episodes, bool)
    for _ in range(bits):
        seen, _, terminated, _ = envs.step(agent.act(seen))
        reached |= terminated
    return float(reached.mean())


def train(
    view: reverie.views.Transitions | reverie.views.Hindsight, bits: int, calls: int, seed: int
) -> list[tuple[int, float]]:
    """Collects and learns in turn; the shares that were reached, by steps."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    envs, agent = Flips(NUM_ENVS, bits, seed), Agent(bits)
    part = reverie.ArraySpec((bits,), np.float32)
    spec = {
        "observation": {"observation": part, "achieved_goal": part, "desired_goal": part},
        "action": reverie.ArraySpec((), np.int64),
        "reward": reverie.ArraySpec((), np.float32),
    }
    name = type(view).__name__
    curve: list[tuple[int, float]] = []
    with reverie.ReplayBuffer(spec, 100_000, num_envs=NUM_ENVS, seed=seed) as buffer:
        obs = envs.seen()
        for call in range(calls):
            action = agent.act(obs)
            random = rng.random(NUM_ENVS) < EXPLORATION
            action[random] = rng.integers(0, bits, random.sum())
            next_obs, reward, terminated, truncated = envs.step(action)
            buffer.add(obs, action, reward, next_obs, terminated, truncated)
            obs = envs.reset(terminated | truncated)
            if call >= 2 * bits:
                for _ in range(UPDATES_PER_CALL):
                    agent.learn(tensors(buffer.sample(BATCH, view=view)))
            if (call + 1) * 10 // calls != call * 10 // calls:
                curve.append(((call + 1) * NUM_ENVS, judge(agent, bits, seed + 1)))
                step, reached = curve[-1]
                print(f"{step:7d} steps   {reached:6.1%} reached   {name}", flush=True)
    return curve


def main(
    bits: int = 14, calls: int = 4_000, seed: int = 0, picture: str | None = None
) -> tuple[float, float]:
    """Trains twice and prints; the shares with hindsight and without."""
    torch.set_num_threads(1)  # for networks as small as these more would only wait
    hindsight = reverie.views.Hindsight(compute_reward=compute_reward)
    with_it = train(hindsight, bits, calls, seed)
    without = train(reverie.views.Transitions(), bits, calls, seed)
    print(
        f"goals of {bits} bits that are reached: {with_it[-1][1]:.1%} with hindsight, "
        f"{without[-1][1]:.1%} without"
    )
    if picture is not None:
        draw({"hindsight": with_it, "without": without}, f"flipping {bits} bits", picture)
    return with_it[-1][1], without[-1][1]


def draw(curves: dict[str, list[tuple[int, float]]], title: str, path: str) -> None:
    """The learning curves."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), marker="o", label=name)
    axes.set(xlabel="steps of the environments", ylabel="goals reached", title=title)
    axes.legend()
    figure.savefig(path)
    print("picture:", Path(path).resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--bits", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="eight bits, a tenth of the steps")
    parser.add_argument("--picture", help="where to save the learning curves")
    given = parser.parse_args()
    size = {"bits": 8, "calls": 400} if given.quick else {"bits": given.bits}
    main(**size, seed=given.seed, picture=given.picture)
