"""rlox: `ReplayBuffer.push_batch`; `PrioritizedReplayBuffer` and `SequenceReplayBuffer`.

Every column is float32. Only the first has an add of many steps; the other two are filled one
by one. A seed is passed to each sample.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from benchmarks.peers.scenario import (
    ALPHA,
    BATCH,
    BETA,
    ENVS,
    EPISODE,
    ERRORS,
    LENGTH,
    SEQUENCES,
    Row,
    Rows,
    Step,
    filled,
    priorities,
    steps,
)

INSTALL = "pip install rlox"
PACKAGES = ("rlox",)


def rows(capacity: int) -> Rows:
    """See `scenario.ROWS`."""
    import rlox

    buffer = rlox.ReplayBuffer(capacity, 4, 1)
    stream = [_given(step) for step in steps()]
    add = filled(lambda step: buffer.push_batch(*step), stream, capacity)
    prioritized = rlox.PrioritizedReplayBuffer(capacity, 4, 1, ALPHA, BETA)
    sequences = rlox.SequenceReplayBuffer(capacity, 4, 1)
    _fill(prioritized, sequences, capacity)
    prioritized.update_priorities(np.arange(capacity, dtype=np.uint64), priorities(capacity))
    seed = itertools.count()

    def updated() -> Any:
        batch = prioritized.sample(BATCH, next(seed))
        prioritized.update_priorities(batch["indices"], ERRORS)
        return batch

    return {
        "add": Row(add),
        "transitions": Row(lambda: buffer.sample(BATCH, next(seed)), _transitions),
        "n-step": "folded before they are added",
        "prioritized": Row(lambda: prioritized.sample(BATCH, next(seed)), _weighted),
        "updated": Row(updated, _weighted),
        "sequences": Row(
            lambda: sequences.sample_sequences(SEQUENCES, LENGTH, next(seed)),
            _sequences,
            "no masks: only where so many steps are in one episode",
        ),
    }


def _fill(prioritized: Any, sequences: Any, capacity: int) -> None:
    """One environment's episode after the other, as its sequences want them."""
    episode = steps()
    for n in range(capacity):
        step, env = episode[n % EPISODE], n // EPISODE % ENVS
        action = np.array([step.action[env]], np.float32)
        reward, ends = float(step.reward[env]), bool(step.terminated[env])
        obs, after = step.observation[env], step.next_observation[env]
        prioritized.push(obs, action, reward, ends, False, after)
        sequences.push(obs, after, action, reward, ends, False)


def _given(step: Step) -> tuple[Any, ...]:
    states = (step.observation.ravel(), step.next_observation.ravel())
    flags = (step.terminated.astype(np.uint8), step.truncated.astype(np.uint8))
    return (*states, step.action.astype(np.float32), step.reward, *flags)


def _transitions(batch: Any) -> dict[str, Any]:
    return {
        "observation": batch["obs"],
        "action": batch["actions"],
        "reward": batch["rewards"],
        "next_observation": batch["next_obs"],
        "terminated": batch["terminated"],
    }


def _weighted(batch: Any) -> dict[str, Any]:
    return {**_transitions(batch), "weight": batch["weights"]}


def _sequences(batch: Any) -> dict[str, Any]:
    return {
        "observation": batch["obs"],
        "action": batch["actions"][..., 0],
        "reward": batch["rewards"],
        "mask": np.ones(batch["rewards"].shape, bool),
    }
