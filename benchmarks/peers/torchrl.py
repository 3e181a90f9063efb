"""TorchRL: `ReplayBuffer` over a `LazyTensorStorage`, `extend` with a TensorDict of all.

Its plain class, not `TensorDictReplayBuffer`, which puts the index into each batch and is
slower. Sequences are its `Sequence` unit, with masks, over episodes one after the other, as
its collectors write them. Prioritized sampling needs its compiled extension, which loads
beside the one PyTorch that it was built for; without it the reason is said.
"""

from __future__ import annotations

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

INSTALL = "pip install torchrl"
PACKAGES = ("torchrl", "tensordict", "torch")

NAMES = ("observation", "action", "reward", "next_observation", "terminated")


def rows(capacity: int) -> Rows:
    """See `scenario.ROWS`."""
    import torch
    from torchrl.data import LazyTensorStorage, PrioritizedSampler, ReplayBuffer, Sequence

    stream = [_given(step) for step in steps()]

    def made(**settings: Any) -> Any:
        return ReplayBuffer(storage=LazyTensorStorage(capacity), **settings)

    buffer = made(batch_size=BATCH)
    add = filled(buffer.extend, stream, capacity)
    sequences = made(batch_size=SEQUENCES, sample_unit=Sequence(LENGTH, done_key="terminated"))
    episodes = torch.stack(stream, 1).reshape(-1)  # of one environment after the other
    for _ in range(-(-capacity // (ENVS * EPISODE))):
        sequences.extend(episodes[:capacity])
    found: Rows = {
        "add": Row(add),
        "transitions": Row(buffer.sample, _transitions),
        "n-step": "folded when extended, not when sampled",
        "sequences": Row(lambda: sequences.sample(return_info=True), _sequences),
    }
    try:
        sampler = PrioritizedSampler(capacity, ALPHA, BETA)
    except RuntimeError as error:
        return {**found, "prioritized": str(error), "updated": str(error)}
    prioritized = made(batch_size=BATCH, sampler=sampler)
    filled(prioritized.extend, stream, capacity)
    all_of_them = torch.from_numpy(priorities(capacity)).float()
    prioritized.update_priority(torch.arange(capacity), all_of_them)
    errors = torch.from_numpy(ERRORS).float()

    def updated() -> Any:
        batch, info = prioritized.sample(return_info=True)
        prioritized.update_priority(info["index"], errors)
        return batch, info

    return {
        **found,
        "prioritized": Row(lambda: prioritized.sample(return_info=True), _weighted),
        "updated": Row(updated, _weighted),
    }


def _given(step: Step) -> Any:
    import torch
    from tensordict import TensorDict

    columns = zip(NAMES, map(torch.from_numpy, map(np.ascontiguousarray, step)), strict=False)
    return TensorDict(dict(columns), batch_size=[ENVS])


def _transitions(batch: Any) -> dict[str, Any]:
    return {name: batch[name] for name in NAMES}


def _weighted(found: Any) -> dict[str, Any]:
    batch, info = found
    return {**_transitions(batch), "weight": info["priority_weight"]}


def _sequences(found: Any) -> dict[str, Any]:
    batch, info = found
    shaped = batch.reshape(SEQUENCES, LENGTH)
    names = ("observation", "action", "reward")
    mask = info["validity_mask"].reshape(SEQUENCES, LENGTH)
    return {**{name: shaped[name] for name in names}, "mask": mask}
