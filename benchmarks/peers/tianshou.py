"""Tianshou: `VectorReplayBuffer` and `PrioritizedVectorReplayBuffer`, a part an environment.

It computes n-step returns in its algorithms, from the buffer; `stack_num=` stacks observations
alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.peers.scenario import (
    ALPHA,
    BATCH,
    BETA,
    ENVS,
    ERRORS,
    Row,
    Rows,
    Step,
    filled,
    priorities,
    steps,
)

INSTALL = "pip install tianshou"
PACKAGES = ("tianshou", "numpy")


def rows(capacity: int) -> Rows:
    """See `scenario.ROWS`."""
    from tianshou.data import Batch, PrioritizedVectorReplayBuffer, VectorReplayBuffer

    buffer = VectorReplayBuffer(capacity, ENVS)
    prioritized = PrioritizedVectorReplayBuffer(capacity, ENVS, alpha=ALPHA, beta=BETA)
    stream = [Batch(**_given(step)) for step in steps()]
    add = filled(buffer.add, stream, capacity)
    filled(prioritized.add, stream, capacity)
    prioritized.update_weight(np.arange(capacity), priorities(capacity))

    def updated() -> Any:
        batch, index = prioritized.sample(BATCH)
        prioritized.update_weight(index, ERRORS)
        return batch, index

    return {
        "add": Row(add),
        "transitions": Row(lambda: buffer.sample(BATCH), _transitions),
        "n-step": "its algorithms compute them, not its buffers",
        "prioritized": Row(lambda: prioritized.sample(BATCH), _weighted),
        "updated": Row(updated, _weighted),
        "sequences": "it stacks observations alone, without masks",
    }


def _given(step: Step) -> dict[str, Any]:
    names = ("obs", "act", "rew", "obs_next", "terminated", "truncated")
    done = step.terminated | step.truncated
    return {**dict(zip(names, step, strict=True)), "done": done}


def _transitions(found: Any) -> dict[str, Any]:
    batch, _ = found
    return {
        "observation": batch.obs,
        "action": batch.act,
        "reward": batch.rew,
        "next_observation": batch.obs_next,
        "terminated": batch.terminated,
    }


def _weighted(found: Any) -> dict[str, Any]:
    return {**_transitions(found), "weight": found[0].weight}
