"""Stable-Baselines3's DQN and SAC on Reverie's buffers, and DQN with priorities.

    pip install '.[sb3]'                        # in a clone
    python examples/sb3_plug_in.py              # about two minutes on one core
    python examples/sb3_plug_in.py --quick      # does everything work here?
    python examples/sb3_plug_in.py --picture curves.png    # needs matplotlib

All that there is to it is `replay_buffer_class=reverie.sb3.ReplayBuffer`; `PrioritizedDQN` is
SB3's DQN with a buffer that is drawn from by errors, the weights in its loss, and its errors
given back. DQN balances a pole, SAC swings a pendulum up. Printed is the return of each policy
in 20 fresh episodes, beside that of a random one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import reverie.sb3
from reverie.weights import LinearSchedule

EPISODES = 20
POLE, PENDULUM = "CartPole-v1", "Pendulum-v1"
POLE_STEPS, PENDULUM_STEPS = 50_000, 5_000
BALANCING: dict[str, Any] = {
    "learning_rate": 5e-4,
    "batch_size": 64,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "gamma": 0.99,
    "train_freq": 4,
    "gradient_steps": 2,
    "target_update_interval": 4,
    "tau": 0.02,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [256, 256]},
}
SWINGING: dict[str, Any] = {
    "learning_rate": 2e-3,
    "batch_size": 128,
    "learning_starts": 500,
    "gamma": 0.98,
    "train_freq": 2,
    "tau": 0.01,
    "policy_kwargs": {"net_arch": [128, 128]},
}
PRIORITIES = {"alpha": 0.6, "beta": LinearSchedule(0.4, 1.0, POLE_STEPS)}
OURS = {"replay_buffer_class": reverie.sb3.ReplayBuffer}


class Run(NamedTuple):
    """What is trained, where, for how long, and with which settings."""

    algorithm: Any
    environment: str
    steps: int
    settings: dict[str, Any]


RUNS = {
    "DQN": Run(DQN, POLE, POLE_STEPS, {**BALANCING, **OURS}),
    "PrioritizedDQN": Run(
        reverie.sb3.PrioritizedDQN,
        POLE,
        POLE_STEPS,
        {**BALANCING, "replay_buffer_kwargs": PRIORITIES},
    ),
    "SAC": Run(SAC, PENDULUM, PENDULUM_STEPS, {**SWINGING, **OURS}),
}


class Curve(BaseCallback):  # type: ignore[misc, unused-ignore]
    """Judges the policy now and then, in episodes of its own."""

    def __init__(self, name: str, environment: str, every: int, seed: int) -> None:
        super().__init__()
        self.name, self.every, self.first = name, every, seed
        self.envs = make_vec_env(environment, EPISODES)
        self.points: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every == 0:
            self.envs.seed(self.first)
            mean, _ = evaluate_policy(self.model, self.envs, EPISODES)
            self.points.append((self.num_timesteps, float(np.mean(mean))))
            print(
                f"{self.num_timesteps:7d} steps   return {mean:8.1f}   {self.name}", flush=True
            )
        return True


def chance(environment: str, seed: int) -> float:
    """The mean return of a random policy."""
    env = gym.make(environment)
    env.action_space.seed(seed)
    total = 0.0
    for episode in range(EPISODES):
        env.reset(seed=seed + episode)
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total += float(reward)
            over = terminated or truncated
    return total / EPISODES


def main(
    names: tuple[str, ...] = tuple(RUNS),
    part: float = 1.0,
    seed: int = 0,
    picture: str | None = None,
) -> dict[str, tuple[float, float]]:
    """Trains each for a part of its steps and prints; by name, its return and chance's."""
    torch.set_num_threads(1)  # for networks as small as these more would only wait
    curves: dict[str, Curve] = {}
    for name in names:
        algorithm, environment, steps, settings = RUNS[name]
        model = algorithm("MlpPolicy", environment, seed=seed, device="cpu", **settings)
        curves[name] = Curve(name, environment, max(int(steps * part) // 10, 1), seed + 1)
        model.learn(int(steps * part), callback=curves[name])
    random = {
        environment: chance(environment, seed)
        for environment in {RUNS[name].environment for name in names}
    }
    found = {
        name: (curve.points[-1][1], random[RUNS[name].environment])
        for name, curve in curves.items()
    }
    for name, (score, baseline) in found.items():
        print(
            f"return of {name} in {EPISODES} episodes of {RUNS[name].environment}: "
            f"{score:.1f}, of a random policy: {baseline:.1f}"
        )
    if picture is not None:
        draw(curves, random, picture)
    return found


def draw(curves: dict[str, Curve], random: dict[str, float], path: str) -> None:
    """The learning curves, and the baselines; each environment for itself."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4 * len(random)), layout="constrained")
    for axes, (environment, baseline) in zip(
        figure.subplots(len(random), squeeze=False)[:, 0], random.items(), strict=True
    ):
        for name, curve in curves.items():
            if RUNS[name].environment == environment:
                axes.plot(*zip(*curve.points, strict=True), marker="o", label=name)
        axes.axhline(baseline, linestyle="--", label="random policy")
        axes.set(xlabel="steps", ylabel="return", title=environment)
        axes.legend()
    figure.savefig(path)
    print("picture:", Path(path).resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", choices=RUNS, help="train this alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    parser.add_argument("--picture", help="where to save the learning curves")
    given = parser.parse_args()
    main(
        tuple(RUNS) if given.only is None else (given.only,),
        0.1 if given.quick else 1.0,
        given.seed,
        given.picture,
    )
