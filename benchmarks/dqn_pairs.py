"""The example's DQN on a replay buffer, and on one of NumPy: `python -m benchmarks.dqn_pairs`.

The same agent, seeds and environments; only the buffer differs. The other one is what a
careful person would write in an hour: a list of each environment's last three steps, arrays,
and `Generator.choice` over all priorities. Printed are the greedy returns of 20 episodes by
seed, and their differences. Needs PyTorch and gymnasium; some minutes a seed.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.sample import Batch, SampleInfo, WeightedInfo

N_STEP, GAMMA, ALPHA, EPS = 3, 0.99, 0.6, 1e-6


class NumpyBuffer:
    """Prioritized three-step replay for environments that reset themselves at the next call."""

    def __init__(self, capacity: int, num_envs: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.capacity, self.size, self.at = capacity, 0, 0
        self.steps: list[deque[tuple[Any, ...]]] = [deque() for _ in range(num_envs)]
        self.ended = np.zeros(num_envs, bool)
        self.columns: dict[str, NDArray[Any]] = {
            "observation": np.zeros((capacity, 4), np.float32),
            "action": np.zeros(capacity, np.int64),
            "reward": np.zeros(capacity, np.float32),
            "next_observation": np.zeros((capacity, 4), np.float32),
            "discount": np.zeros(capacity, np.float32),
        }
        self.priorities = np.zeros(capacity)

    def __len__(self) -> int:
        return self.size

    def add(
        self, obs: Any, act: Any, reward: Any, after: Any, end: Any, cut: Any, _: Any
    ) -> None:
        """A step of each environment."""
        for env, steps in enumerate(self.steps):
            if self.ended[env]:  # this call only reset it
                self.ended[env] = False
                continue
            steps.append((obs[env].copy(), act[env], float(reward[env])))
            self.ended[env] = end[env] or cut[env]
            if self.ended[env]:
                while steps:
                    self._store(steps, after[env], bool(end[env]))
            elif len(steps) == N_STEP:
                self._store(steps, after[env], False)

    def _store(self, steps: deque[tuple[Any, ...]], after: Any, end: bool) -> None:
        obs, act, _ = steps[0]
        total = sum(GAMMA**k * reward for k, (_, _, reward) in enumerate(steps))
        row = (obs, act, total, after, 0.0 if end else GAMMA ** len(steps))
        steps.popleft()
        for column, value in zip(self.columns.values(), row, strict=True):
            column[self.at] = value
        self.priorities[self.at] = self.priorities.max() or 1.0
        self.at = (self.at + 1) % self.capacity
        self.size = min(self.size + 1, self.capacity)

    def sample(self, count: int, *, beta: float) -> Batch:
        """A batch with weights."""
        chances = self.priorities[: self.size] ** ALPHA
        chances /= chances.sum()
        rows = self.rng.choice(self.size, count, p=chances)
        weights = (chances.min() / chances[rows]) ** beta
        data = {name: column[rows] for name, column in self.columns.items()}
        info = SampleInfo(
            rows.astype(np.uint64),
            chances[rows],
            np.full(count, self.size, np.int64),
            self.priorities[rows],
            np.ones(count, np.int32),
        )
        return Batch(data, WeightedInfo(*info, weights.astype(np.float32)))

    def update_priorities(self, keys: Any, priorities: Any) -> None:
        """By row."""
        self.priorities[keys.astype(np.int64)] = priorities + EPS


def main() -> None:
    """Trains both for each seed."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60_000)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
    dqn_torch = importlib.import_module("dqn_torch")

    found: list[tuple[float, float]] = []
    for seed in range(given.seeds):
        ours = dqn_torch.main(given.steps, seed)
        plain = dqn_torch.main(
            given.steps, seed, make=lambda envs, s: NumpyBuffer(100_000, envs.num_envs, s)
        )
        found.append((ours, plain))
        print(f"seed {seed}: {ours:.1f}, on NumPy {plain:.1f}", flush=True)
    medians = [statistics.median(column) for column in zip(*found, strict=True)]
    print(f"medians: {medians[0]:.1f}, on NumPy {medians[1]:.1f}")


if __name__ == "__main__":
    main()
