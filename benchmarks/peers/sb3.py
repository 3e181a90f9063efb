"""Stable-Baselines3: `ReplayBuffer` and `NStepReplayBuffer` with `n_envs`; tensors come out.

As its algorithms use it: `handle_timeout_termination=True`, so an `infos` of one dict an
environment is read at each `add`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.scenario import (
    BATCH,
    ENVS,
    GAMMA,
    N_STEP,
    Row,
    Rows,
    Step,
    filled,
    steps,
)

INSTALL = "pip install stable-baselines3"
PACKAGES = ("stable-baselines3", "torch")


def rows(capacity: int) -> Rows:
    """See `scenario.ROWS`."""
    from gymnasium import spaces
    from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

    def made(kind: Any, **settings: Any) -> Any:
        observation = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        return kind(capacity, observation, spaces.Discrete(2), "cpu", n_envs=ENVS, **settings)

    infos: list[dict[str, Any]] = [{} for _ in range(ENVS)]

    def given(step: Step) -> tuple[Any, ...]:
        return (step.observation, step.next_observation, *step[1:3], step.terminated, infos)

    buffer, n_step = made(ReplayBuffer), made(NStepReplayBuffer, n_steps=N_STEP, gamma=GAMMA)
    stream = [given(step) for step in steps()]
    add = filled(lambda step: buffer.add(*step), stream, capacity)
    filled(lambda step: n_step.add(*step), stream, capacity)
    return {
        "add": Row(add),
        "transitions": Row(lambda: buffer.sample(BATCH), _transitions),
        "n-step": Row(lambda: n_step.sample(BATCH), _transitions),
        "prioritized": "it has no priorities",
        "updated": "it has no priorities",
        "sequences": "its replay buffers hold transitions alone",
    }


def _transitions(batch: Any) -> dict[str, Any]:
    return {
        "observation": batch.observations,
        "action": batch.actions[:, 0],
        "reward": batch.rewards[:, 0],
        "next_observation": batch.next_observations,
        "terminated": batch.dones[:, 0],
    }
