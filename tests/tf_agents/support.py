"""Steps of TF-Agents' Trajectory, their windows by the obvious rule, and managers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step, trajectory

import reverie
from reverie import observers

FIRST, MID, LAST = time_step.StepType.FIRST, time_step.StepType.MID, time_step.StepType.LAST

SPEC = trajectory.Trajectory(
    step_type=tf.TensorSpec((), tf.int32),
    observation={
        "position": tf.TensorSpec((3,), tf.float32),
        "camera": (tf.TensorSpec((2, 2), tf.uint8), tf.TensorSpec((), tf.bool)),
    },
    action=tf.TensorSpec((2,), tf.float32),
    policy_info=(),
    next_step_type=tf.TensorSpec((), tf.int32),
    reward=tf.TensorSpec((), tf.float32),
    discount=tf.TensorSpec((), tf.float32),
)


def episode(num_steps: int, number: int = 0) -> list[Any]:
    """An episode of `num_steps` steps, the boundary included, random but for its rewards.

    The rewards count the steps: 1000 * number, then one more each time.
    """
    rng = np.random.default_rng([num_steps, number])
    steps = []
    for index in range(num_steps):
        last = index == num_steps - 1
        steps.append(
            trajectory.Trajectory(
                step_type=np.asarray(LAST if last else MID if index else FIRST, np.int32),
                observation={
                    "position": rng.normal(size=3).astype(np.float32),
                    "camera": (
                        rng.integers(0, 256, (2, 2), dtype=np.uint8),
                        np.bool_(rng.integers(2)),
                    ),
                },
                action=rng.normal(size=2).astype(np.float32),
                policy_info=(),
                next_step_type=np.asarray(
                    FIRST if last else LAST if index == num_steps - 2 else MID, np.int32
                ),
                reward=np.float32(1000 * number + index),
                discount=np.float32(1),
            )
        )
    return steps


def windows(steps: Sequence[Any], length: int) -> list[Any]:
    """Every run of `length` steps, leaves `[length, ...]`."""
    return [
        tf.nest.map_structure(lambda *leaves: np.stack(leaves), *steps[start : start + length])
        for start in range(len(steps) - length + 1)
    ]


def new_manager(
    folder: Path,
    episodes: Iterable[Sequence[Any]] = (),
    sequence_length: int = 2,
    capacity: int = 1000,
    **settings: Any,
) -> tuple[reverie.ReplayBufferManager, reverie.ReplayBuffer, observers.TrajectoryObserver]:
    """A manager with these episodes in it, its replay buffer and its observer."""
    manager = reverie.ReplayBufferManager(SPEC, capacity, folder, sequence_length, **settings)
    replay_buffer, observer = manager.create_replay_buffer()
    for steps in episodes:
        for step in steps:
            observer(step)
    return manager, replay_buffer, observer


def same(found: Any, wanted: Any) -> bool:
    """Whether two nests have one structure, and leaves of the same dtypes and bytes."""
    tf.nest.assert_same_structure(found, wanted)
    pairs = zip(tf.nest.flatten(found), tf.nest.flatten(wanted), strict=True)
    return all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        for a, b in ((np.asarray(a), np.asarray(b)) for a, b in pairs)
    )


def row(nest: Any, index: int) -> Any:
    """One element of a batch, in NumPy."""
    return tf.nest.map_structure(lambda leaf: np.asarray(leaf)[index], nest)
