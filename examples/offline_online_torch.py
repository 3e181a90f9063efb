"""Offline steps beside online ones in PyTorch: a head start from a mediocre policy's logs.

    pip install '.[torch]'                             # in a clone
    python examples/offline_online_torch.py            # about ten seconds
    python examples/offline_online_torch.py --quick    # does everything work here?
    python examples/offline_online_torch.py --picture curve.png    # needs matplotlib

A lock opens after twelve right buttons of four in a row, a wrong one begins anew, and nothing
is rewarded but that it opens: chance never does it. Somebody who knows the buttons, but slips
one time in five, was watched, and those steps were kept. A DQN then learns online, from batches
of which just half are offline steps and half its own: `reverie.mix` (RLPD, Ball et al. 2023).
Printed is how often the greedy policy opens the lock in time, with the logs and without them,
beside whoever wrote the logs.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import reverie
from reverie.torch import TensorBatch, tensors

BUTTONS, LENGTH, LIMIT = 4, 12, 36
NUM_ENVS = 4
BATCH = 128
UPDATES_PER_CALL = 4  # a call steps all environments
LEARNING_STARTS = 200
EXPLORATION = (0.5, 0.05)
VIEW = reverie.views.Transitions(n_step=3, gamma=0.95)

Policy = Callable[[NDArray[np.float32]], NDArray[np.int64]]
Curve = list[tuple[int, float]]


class Locks:
    """Many locks of the same buttons; each begins anew after its last step."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.right = np.random.default_rng(12).integers(0, BUTTONS, LENGTH)
        self.place, self.time = np.zeros((2, count), np.int64)

    def seen(self) -> NDArray[np.float32]:
        """How many buttons were right, as one of `LENGTH + 1` numbers that is 1."""
        return np.eye(LENGTH + 1, dtype=np.float32)[self.place]

    def step(self, action: NDArray[np.int64]) -> tuple[Any, ...]:
        """What came, reward, terminated, truncated, and what each begins with then."""
        self.place = np.where(action == self.right[self.place], self.place + 1, 0)
        self.time += 1
        terminated = self.place == LENGTH
        truncated = (self.time >= LIMIT) & ~terminated
        came = self.seen()
        ended = terminated | truncated
        self.place[ended] = self.time[ended] = 0
        return came, terminated.astype(np.float32), terminated, truncated, self.seen()


class Agent:
    """A double DQN."""

    def __init__(self) -> None:
        self.online = nn.Sequential(
            nn.Linear(LENGTH + 1, 64), nn.ReLU(), nn.Linear(64, BUTTONS)
        )
        self.target = copy.deepcopy(self.online)
        self.optimizer = torch.optim.Adam(self.online.parameters(), 1e-3)

    def act(self, observations: NDArray[np.float32]) -> NDArray[np.int64]:
        """The greedy actions."""
        with torch.no_grad():
            values: torch.Tensor = self.online(torch.from_numpy(observations))
        actions: NDArray[np.int64] = values.argmax(-1).numpy()
        return actions

    def learn(self, batch: TensorBatch) -> None:
        """One step on a batch of tensors, whatever its rows came from."""
        with torch.no_grad():
            chosen = self.online(batch.next_observation).argmax(-1, keepdim=True)
            value = self.target(batch.next_observation).gather(1, chosen)[:, 0]
            wanted = batch.reward + batch.discount * value
        found = self.online(batch.observation).gather(1, batch.action[:, None])[:, 0]
        self.optimizer.zero_grad()
        nn.functional.smooth_l1_loss(found, wanted).backward()
        nn.utils.clip_grad_norm_(self.online.parameters(), 10.0)
        self.optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(
                self.target.parameters(), self.online.parameters(), strict=True
            ):
                slow.lerp_(fast, 0.01)


def mediocre(rng: np.random.Generator) -> Policy:
    """The right button, but for one time in five."""
    right = np.append(Locks(1).right, 0)

    def act(observations: NDArray[np.float32]) -> NDArray[np.int64]:
        slips = rng.random(len(observations)) < 0.2
        chance = rng.integers(0, BUTTONS, len(observations))
        return np.where(slips, chance, right[observations.argmax(-1)])

    return act


def new_buffer(capacity: int, seed: int) -> reverie.ReplayBuffer:
    """For the steps of `NUM_ENVS` locks."""
    spec = {
        "observation": reverie.ArraySpec((LENGTH + 1,), np.float32),
        "action": reverie.ArraySpec((), np.int64),
        "reward": reverie.ArraySpec((), np.float32),
    }
    return reverie.ReplayBuffer(spec, capacity, num_envs=NUM_ENVS, view=VIEW, seed=seed)


def collected(act: Policy, steps: int, seed: int) -> reverie.ReplayBuffer:
    """The logs: as `reverie.open` would give them, had somebody saved them."""
    locks, buffer = Locks(NUM_ENVS), new_buffer(steps, seed)
    obs = locks.seen()
    for _ in range(0, steps, NUM_ENVS):
        action = act(obs)
        next_obs, reward, terminated, truncated, begin = locks.step(action)
        buffer.add(obs, action, reward, next_obs, terminated, truncated)
        obs = begin
    return buffer


def judge(act: Policy, episodes: int) -> float:
    """The share of locks that are opened in time."""
    locks, opened = Locks(episodes), np.zeros(episodes, bool)
    obs = locks.seen()
    for _ in range(LIMIT):
        _, _, terminated, _, obs = locks.step(act(obs))
        opened |= terminated
    return float(opened.mean())


def train(offline: reverie.ReplayBuffer | None, steps: int, seed: int) -> Curve:
    """Learns online; the shares that the greedy policy opens, by steps of its own."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    locks, agent = Locks(NUM_ENVS), Agent()
    online = new_buffer(50_000, seed)
    source: Any = online
    if offline is not None:
        source = reverie.mix({"online": online, "offline": offline}, {"online": 0.5})
    curve: Curve = []
    obs = locks.seen()
    for step in range(0, steps, NUM_ENVS):
        action = agent.act(obs)
        explore = EXPLORATION[0] + (EXPLORATION[1] - EXPLORATION[0]) * min(1, 2 * step / steps)
        random = rng.random(NUM_ENVS) < explore
        action[random] = rng.integers(0, BUTTONS, random.sum())
        next_obs, reward, terminated, truncated, begin = locks.step(action)
        online.add(obs, action, reward, next_obs, terminated, truncated)
        obs = begin
        if len(online) >= LEARNING_STARTS:
            for _ in range(UPDATES_PER_CALL):
                agent.learn(tensors(source.sample(BATCH)))
        if (step + NUM_ENVS) * 10 // steps != step * 10 // steps:
            curve.append((step + NUM_ENVS, judge(agent.act, 20)))
            print(f"{curve[-1][0]:7d} steps   {curve[-1][1]:6.1%} open   {source}", flush=True)
    return curve


def main(
    steps: int = 4_000, seed: int = 0, picture: str | None = None
) -> tuple[float, float, float]:
    """Trains twice and prints; the shares with the logs, without, and of who wrote them."""
    torch.set_num_threads(1)  # for networks as small as these more would only wait
    rng = np.random.default_rng(seed)
    offline = collected(mediocre(rng), 10_000, seed)
    logged = judge(mediocre(rng), 200)
    curves = {
        "half offline": train(offline, steps, seed),
        "online alone": train(None, steps, seed),
    }
    mixed, alone = (curve[-1][1] for curve in curves.values())
    print(
        f"locks opened after {steps} steps: {mixed:.1%} with the logs, {alone:.1%} without; "
        f"by whoever wrote them: {logged:.1%}"
    )
    if picture is not None:
        draw(curves, logged, picture)
    return mixed, alone, logged


def draw(curves: dict[str, Curve], logged: float, path: str) -> None:
    """The learning curves, and the policy that wrote the logs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), marker="o", label=name)
    axes.axhline(logged, linestyle="--", label="who wrote the logs")
    axes.set(xlabel="steps online", ylabel="locks opened")
    axes.legend()
    figure.savefig(path)
    print("picture:", Path(path).resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a quarter of the steps")
    parser.add_argument("--picture", help="where to save the learning curves")
    given = parser.parse_args()
    main(given.steps // 4 if given.quick else given.steps, given.seed, given.picture)
