"""What a script with SB3's calls writes, and which types it gets back. It also runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from typing_extensions import assert_type

import reverie
from reverie.sb3 import ReplayBuffer, ReplayBufferSamples


def main(folder: Path) -> None:
    """Adds and samples."""
    observations, actions = np.zeros(3, np.float32), np.zeros((), np.int64)
    replay = ReplayBuffer(100, observations, actions, "cpu", handle_timeout_termination=False)
    for t in range(10):
        before, after = np.full((1, 3), t), np.full((1, 3), t + 1)
        replay.add(before, after, np.zeros(1), np.ones(1), np.array([t == 9]), [{}])
    samples = replay.sample(4)
    assert_type(samples, ReplayBufferSamples)
    assert_type(samples.observations, torch.Tensor)
    assert_type(samples.rewards, torch.Tensor)
    assert_type(samples.dones.flatten(), torch.Tensor)
    assert_type(replay.size(), int)
    assert_type(replay.buffer, reverie.ReplayBuffer)
