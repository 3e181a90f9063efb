"""Reverie's `ReplayBuffer`: steps as an environment returns them, views at sample time."""

from __future__ import annotations

from typing import Any

import numpy as np

import reverie
from benchmarks.peers.scenario import (
    ALPHA,
    BATCH,
    BETA,
    ENVS,
    ERRORS,
    GAMMA,
    LENGTH,
    N_STEP,
    SEQUENCES,
    Row,
    Rows,
    filled,
    priorities,
    steps,
)
from reverie.views import Sequences, Transitions


def buffer_of(capacity: int, **settings: Any) -> reverie.ReplayBuffer:
    """Empty."""
    spec = {
        "observation": reverie.ArraySpec((4,), np.float32),
        "action": reverie.ArraySpec((), np.int64),
        "reward": reverie.ArraySpec((), np.float32),
    }
    return reverie.ReplayBuffer(spec, capacity, num_envs=ENVS, seed=0, **settings)


def rows(capacity: int) -> Rows:
    """See `scenario.ROWS`."""
    buffer = buffer_of(capacity)
    add = filled(lambda step: buffer.add(*step), steps(), capacity)
    prioritized = buffer_of(capacity, sampler=reverie.samplers.Prioritized(ALPHA))
    filled(lambda step: prioritized.add(*step), steps(), capacity)
    prioritized.update_priorities(prioritized.steps().key, priorities(len(prioritized)))
    n_step, sequences = Transitions(N_STEP, GAMMA), Sequences(LENGTH)

    def updated() -> reverie.Batch:
        batch = prioritized.sample(BATCH, beta=BETA)
        prioritized.update_priorities(batch.key, ERRORS)
        return batch

    return {
        "add": Row(add),
        "transitions": Row(lambda: buffer.sample(BATCH), _transitions),
        "n-step": Row(lambda: buffer.sample(BATCH, view=n_step), _transitions),
        "prioritized": Row(lambda: prioritized.sample(BATCH, beta=BETA), _weighted),
        "updated": Row(updated, _weighted),
        "sequences": Row(lambda: buffer.sample(SEQUENCES, view=sequences), _sequences),
    }


def _transitions(batch: reverie.Batch) -> dict[str, Any]:
    names = ("observation", "action", "reward", "next_observation", "terminated")
    return {name: batch.data[name] for name in names}


def _weighted(batch: reverie.Batch) -> dict[str, Any]:
    return {**_transitions(batch), "weight": batch.weight}


def _sequences(batch: reverie.Batch) -> dict[str, Any]:
    return {name: batch.data[name] for name in ("observation", "action", "reward", "mask")}
