"""A ring of NumPy columns: what one would write in ten lines.

The next observation is stored a second time; episodes, n-step returns and priorities it knows
nothing of.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.scenario import BATCH, Row, Rows, Step, filled, steps

INSTALL = "pip install numpy"
PACKAGES = ("numpy",)


class Plain:
    """A ring of columns."""

    def __init__(self, capacity: int) -> None:
        self.columns: dict[str, np.ndarray[Any, Any]] = {
            "observation": np.zeros((capacity, 4), np.float32),
            "action": np.zeros(capacity, np.int64),
            "reward": np.zeros(capacity, np.float32),
            "next_observation": np.zeros((capacity, 4), np.float32),
            "terminated": np.zeros(capacity, np.bool_),
        }
        self.at, self.size, self.capacity = 0, 0, capacity
        self.rng = np.random.default_rng(0)

    def add(self, step: Step) -> None:
        """A step of each environment; the capacity is a multiple of them."""
        count = len(step.reward)
        rows = slice(self.at, self.at + count)
        for column, value in zip(self.columns.values(), step, strict=False):
            column[rows] = value
        self.at = (self.at + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def sample(self, count: int) -> dict[str, Any]:
        """Transitions, with replacement."""
        rows = self.rng.integers(0, self.size, count)
        return {name: column[rows] for name, column in self.columns.items()}


def rows(capacity: int) -> Rows:
    """See `scenario.ROWS`."""
    ring = Plain(capacity)
    add = filled(ring.add, steps(), capacity)
    nothing = "it has none"
    return {
        "add": Row(add),
        "transitions": Row(lambda: ring.sample(BATCH), dict),
        "n-step": nothing,
        "prioritized": nothing,
        "updated": nothing,
        "sequences": nothing,
    }
