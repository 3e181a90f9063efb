"""cpprb: `ReplayBuffer` and `PrioritizedReplayBuffer`, steps of all environments in one `add`.

Its `next_of=`, which would spare the second copy of observations, takes what is added next for
the next observation: of many environments that is another one's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.scenario import (
    ALPHA,
    BATCH,
    BETA,
    ERRORS,
    Row,
    Rows,
    Step,
    filled,
    priorities,
    steps,
)

INSTALL = "pip install cpprb (has no wheels for Python 3.13)"
PACKAGES = ("cpprb",)


def rows(capacity: int) -> Rows:
    """See `scenario.ROWS`."""
    from cpprb import PrioritizedReplayBuffer, ReplayBuffer

    columns = {
        "obs": {"shape": 4, "dtype": np.float32},
        "act": {"dtype": np.int64},
        "rew": {"dtype": np.float32},
        "next_obs": {"shape": 4, "dtype": np.float32},
        "done": {"dtype": np.bool_},
    }
    buffer = ReplayBuffer(capacity, columns)
    prioritized = PrioritizedReplayBuffer(capacity, columns, alpha=ALPHA)
    stream = [_given(step) for step in steps()]
    add = filled(lambda step: buffer.add(**step), stream, capacity)
    filled(lambda step: prioritized.add(**step), stream, capacity)
    prioritized.update_priorities(np.arange(capacity), priorities(capacity))

    def updated() -> Any:
        batch = prioritized.sample(BATCH, beta=BETA)
        prioritized.update_priorities(batch["indexes"], ERRORS)
        return batch

    return {
        "add": Row(add),
        "transitions": Row(lambda: buffer.sample(BATCH), _transitions),
        "n-step": "folded when added, not when sampled, and of one environment a buffer",
        "prioritized": Row(lambda: prioritized.sample(BATCH, beta=BETA), _weighted),
        "updated": Row(updated, _weighted),
        "sequences": "it has none",
    }


def _given(step: Step) -> dict[str, Any]:
    return dict(zip(("obs", "act", "rew", "next_obs", "done"), step, strict=False))


def _transitions(batch: Any) -> dict[str, Any]:
    return {
        "observation": batch["obs"],
        "action": batch["act"][:, 0],
        "reward": batch["rew"][:, 0],
        "next_observation": batch["next_obs"],
        "terminated": batch["done"][:, 0],
    }


def _weighted(batch: Any) -> dict[str, Any]:
    return {**_transitions(batch), "weight": batch["weights"]}
