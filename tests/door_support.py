"""A filled buffer for the doors into frameworks, whose batches say what they must hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from reverie import ReplayBuffer

SPEC = {
    "observation": np.zeros((3,), np.float32),
    "action": np.zeros((), np.int64),
    "reward": np.zeros((), np.float32),
}


def filled(steps: int = 50, **settings: Any) -> ReplayBuffer:
    """One episode: step t has observation (3t, 3t+1, 3t+2), action t, reward t."""
    buffer = ReplayBuffer(SPEC, 1_000, seed=0, **settings)
    states = np.arange((steps + 1) * 3, dtype=np.float32).reshape(-1, 3)
    rewards = np.arange(steps, dtype=np.float32)
    buffer.add_episode({"observation": states, "action": np.arange(steps), "reward": rewards})
    return buffer
